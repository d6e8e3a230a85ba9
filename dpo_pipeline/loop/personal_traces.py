"""What is left of a person in a data folder, wherever it stands: the last look after `dpo forget`.

Files are searched as bytes, whatever they are: SQLite's pages, write-ahead logs and caches hold texts as they are.
Parquet and DuckDB, which compress, are opened too, and so are packed files, such as logs that were rotated, and SQLite,
which splits a long row over its pages. Texts are looked for as UTF-8 and as JSON writes them, with ASCII alone too.
"""

import bz2
import gzip
import html
import json
import lzma
import mmap
import sqlite3
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from io import BufferedIOBase
from pathlib import Path
from typing import Any

import duckdb

from dpo_pipeline.in_words import fault

SHORTEST = 12
"""Shorter texts, such as "Thanks!", are anybody's."""
NAMED = 60
LOOKED_FOR = 200
"""So many bytes of a text are looked for: databases split longer ones over their pages."""
AT_ONCE = 1_000
"""Rows of a table."""
AT_ONCE_BYTES = 1 << 20
"""Of what a packed file holds."""
SQLITE, DUCKDB, PARQUET = b"SQLite format 3\x00", b"DUCK", b"PAR1"
"""How these files begin; DuckDB's after a checksum of eight bytes."""
PACKED: dict[bytes, Callable[[Path], BufferedIOBase]] = {
    b"\x1f\x8b": gzip.GzipFile,
    b"BZh": bz2.BZ2File,
    b"\xfd7zXZ\x00": lzma.LZMAFile,
}
"""By how they begin, what opens them."""


@dataclass(frozen=True)
class Trace:
    """A file that still holds something; `what` is its beginning, or why nobody could look."""

    path: Path
    what: str


def traces(folder: Path, marks: Collection[str]) -> Iterator[Trace]:
    """Files below `folder` that hold one of these texts or pseudonyms, each once.

    Args:
        marks: those of fewer than `SHORTEST` characters are passed over.
    """
    needles = {form[:LOOKED_FOR]: mark for mark in marks if len(mark) >= SHORTEST for form in forms_of(mark)}
    if not needles:
        return
    for path in sorted(folder.rglob("*")):
        if path.is_symlink() or not path.is_file() or path.suffix == ".safetensors":
            continue
        try:
            found = _found_in(path, needles)
        except FileNotFoundError:
            continue  # a program that runs took it away meanwhile
        if found is not None:
            yield Trace(path, found[:NAMED])


def forms_of(mark: str) -> set[bytes]:
    """How programs write a text: as it is, and inside of JSON, with other letters or escaped."""
    forms = (mark, html.escape(mark), json.dumps(mark)[1:-1], json.dumps(mark, ensure_ascii=False)[1:-1])
    return {form.encode("utf-8", "replace") for form in forms}


def _found_in(path: Path, needles: dict[bytes, str]) -> str | None:
    """The first text that stands in a file, or that the file could not be opened by what reads its kind."""
    if not path.stat().st_size:
        return None
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        if found := _first_in(content, needles):
            return found
        head = content[:16]
    try:
        if unpack := next((each for begin, each in PACKED.items() if head.startswith(begin)), None):
            return _packed(path, unpack, needles)
        return next((found for rows in _rows_of(path, head) if (found := _in_rows(rows, needles))), None)
    except _Unreadable as error:
        return f"it could not be opened, so nobody knows: {error}"


def _first_in(content: bytes | mmap.mmap, needles: dict[bytes, str]) -> str | None:
    return next((mark for needle, mark in needles.items() if content.find(needle) >= 0), None)


class _Unreadable(Exception):
    """Whatever reads a kind of file says why it cannot."""


def _packed(path: Path, unpack: Callable[[Path], BufferedIOBase], needles: dict[bytes, str]) -> str | None:
    """The first text in what a file unpacks to, of which no more is held at once than a piece.

    Raises:
        _Unreadable: it is damaged or cut off.
    """
    kept = max(map(len, needles)) - 1  # of the piece before: a text may stand across two
    piece = b""
    try:
        with unpack(path) as content:
            while more := content.read(AT_ONCE_BYTES):
                piece = piece[-kept:] + more
                if found := _first_in(piece, needles):
                    return found
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise _Unreadable(fault(error)) from error
    return None


def _rows_of(path: Path, head: bytes) -> Iterator[list[Any]]:
    """What a file of tables holds, some rows at a time; nothing of another file.

    Raises:
        _Unreadable: it is damaged, or a program still works with it.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        if head.startswith(PARQUET):
            for batch in pq.ParquetFile(path).iter_batches(AT_ONCE):
                yield batch.to_pylist()
        elif head.startswith(SQLITE):
            with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as lite:
                # What is stored as text need not be UTF-8.
                lite.text_factory = lambda stored: stored.decode("utf-8", "replace")
                names = [name for (name,) in lite.execute("select name from sqlite_master where type = 'table'")]
                for name in names:
                    cursor = lite.execute(f"select * from {_quoted(name)}")
                    while rows := cursor.fetchmany(AT_ONCE):
                        yield rows
        elif head[8:12] == DUCKDB:
            with closing(duckdb.connect(str(path), read_only=True)) as duck:
                tables = duck.execute("select schema_name, table_name from duckdb_tables() where not internal")
                for schema, table in tables.fetchall():
                    result = duck.execute(f"select * from {_quoted(schema)}.{_quoted(table)}")
                    while rows := result.fetchmany(AT_ONCE):
                        yield rows
    except (pa.ArrowException, sqlite3.Error, duckdb.Error) as error:
        raise _Unreadable(fault(error).splitlines()[0]) from error


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _in_rows(rows: list[Any], needles: dict[bytes, str]) -> str | None:
    content = "\0".join(_texts_in(rows)).encode("utf-8", "replace")
    return next((mark for needle, mark in needles.items() if needle in content), None)


def _texts_in(value: Any) -> Iterator[str]:
    """Every text of a row, as it stands there: one may be JSON itself."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, bytes | bytearray | memoryview):
        yield bytes(value).decode("utf-8", "replace")
    elif isinstance(value, Mapping):
        for each in value.items():
            yield from _texts_in(each)
    elif isinstance(value, list | tuple | set):
        for each in value:
            yield from _texts_in(each)
