"""Rows of a file that somebody brings: JSON lines, a JSON array or an object around one, CSV, TSV, Parquet.

Each may be gzipped. The encoding is decided once a file: by its byte-order mark or the zero bytes of UTF-16 and UTF-32,
else UTF-8. A folder is read too: one that Hugging Face's `Dataset.save_to_disk` wrote, or a repository of data files.
"""

import codecs
import csv
import gzip
import io
import json
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dpo_pipeline.errors import InvalidRecord, UnreadableImport

WRAPPERS = ("data", "rows", "train")
SAVED = ("state.json", "dataset_dict.json")
"""What a folder of Hugging Face's `datasets` has: one dataset, or several by the name of their split."""
KINDS = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet")
"""Data files of a dataset's repository, by the end of their name; each may end in .gz behind it."""
GZIP, PARQUET = b"\x1f\x8b", b"PAR1"
MOST_BYTES = 8 << 30
"""Of a file, unpacked: it is held in memory, and a small one may unpack to more than a disk holds."""
MOST_DIGITS = 1000
STRUCTURED = {"history", "output", "conversations", "messages", "tools", "conversation_a", "conversation_b"}
"""Columns of a table whose cells hold lists."""
_PART = re.compile(r'"(?:[^"\\]|\\.)*+"?|[\[\]{},]', re.DOTALL)
"""A text, up to the end of the file where it has none, or a mark between parts."""


def read_rows(path: Path) -> Iterator[tuple[int, Any]]:
    """(row number from 1, the row or an `InvalidRecord` that says why it is none).

    Raises:
        UnreadableImport: no such file, or nothing that can be read as rows.
    """
    if any((path / name).is_file() for name in SAVED):
        yield from enumerate(_saved_dataset(path), start=1)
        return
    if path.is_dir() and (files := _data_files(path)):
        yield from enumerate((row for each in files for row in _rows_or_why_not(each)), start=1)
        return
    raw = _bytes(path)
    if raw.startswith(PARQUET):
        yield from enumerate(_parquet(path, raw), start=1)
        return
    encoding = "utf-8-sig" if raw.startswith(codecs.BOM_UTF8) else json.detect_encoding(raw[:4])
    if _kind(path) in (".csv", ".tsv"):
        delimiter = "\t" if _kind(path) == ".tsv" else ","
        yield from enumerate(_table(path, _decoded(path, raw, encoding), delimiter), start=1)
        return
    if encoding != "utf-8":
        raw = _decoded(path, raw, encoding).encode()
    begin = raw.lstrip()[:1]
    if begin == b"[":
        yield from enumerate(_whole(path, raw), start=1)
        return
    wrapped = _wrapped(raw) if begin == b"{" else None
    yield from enumerate(wrapped, start=1) if wrapped is not None else _lines(raw)


def _data_files(folder: Path) -> list[Path]:
    """Of a dataset's repository; what begins with a dot is the repository's own."""
    found = (each for each in sorted(folder.rglob("*")) if _kind(each) in KINDS and each.is_file())
    return [each for each in found if not any(part.startswith(".") for part in each.relative_to(folder).parts)]


def _rows_or_why_not(path: Path) -> Iterator[Any]:
    """One file of several: that it cannot be read costs no other."""
    try:
        yield from (row for _, row in read_rows(path))
    except UnreadableImport:
        yield InvalidRecord("a file of the folder that holds no rows")


def _kind(path: Path) -> str:
    """What the name says it is, without the ending of gzip."""
    return (path.with_suffix("") if path.suffix.lower() == ".gz" else path).suffix.lower()


def _bytes(path: Path) -> bytes:
    if path.exists() and not path.is_file():
        raise UnreadableImport(f"{path} is no regular file, and no folder with data files in it. Name a file of pairs.")
    try:
        with path.open("rb") as file:
            raw = file.read(MOST_BYTES + 1)
        if not raw.startswith(GZIP) or len(raw) > MOST_BYTES:
            unpacked = raw
        else:
            with gzip.open(io.BytesIO(raw)) as packed:
                unpacked = packed.read(MOST_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        told = getattr(error, "strerror", None) or str(error)
        raise UnreadableImport(f"{path} cannot be read: {told}. Name a file of preference pairs.") from error
    if len(unpacked) > MOST_BYTES:
        raise UnreadableImport(f"{path} holds more than {MOST_BYTES >> 30} GiB. Split it.")
    return unpacked


def _saved_dataset(path: Path) -> Iterator[Any]:
    """The rows of all splits, one after the other."""
    from datasets import Dataset, load_from_disk  # not at the top: it takes seconds

    try:
        loaded = load_from_disk(str(path))
        for split in [loaded] if isinstance(loaded, Dataset) else loaded.values():
            yield from split
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UnreadableImport(f"{path} is not as Dataset.save_to_disk leaves it: {error}. Save it again.") from error


def _decoded(path: Path, raw: bytes, encoding: str) -> str:
    try:
        return raw.decode(encoding)
    except UnicodeDecodeError as error:
        raise UnreadableImport(
            f"{path} is not {encoding.upper()}: {error.reason} at byte {error.start}. Save it as UTF-8; nothing was "
            "written."
        ) from error


def _whole(path: Path, raw: bytes) -> list[Any]:
    try:
        rows: list[Any] = _json(raw)
    except ValueError as error:
        raise UnreadableImport(f"{path} is not JSON: {error}. Fix the file; nothing was written.") from error
    except RecursionError:
        return [_json_row(part) for part in _parts(raw.decode())]
    return rows


def _parts(text: str) -> Iterator[str]:
    """The texts of an array's rows, for one that holds a row which cannot be read at once with the others."""
    depth, begin = 0, text.index("[") + 1
    for found in _PART.finditer(text):
        mark = found.group()
        depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(mark, 0)
        if (mark == "," and depth == 1) or (depth == 0 and text[begin : found.start()].strip()):
            yield text[begin : found.start()]
            begin = found.end()
    if depth > 0 and text[begin:].strip():
        yield text[begin:]


def _json(raw: bytes | str) -> Any:
    return json.loads(raw, parse_int=_number)


def _number(digits: str) -> float:
    """No number of a pair has so many digits; Python refuses to read one, and the row with it."""
    return int(digits) if len(digits) <= MOST_DIGITS else float(digits)


def _json_row(raw: bytes | str) -> Any:
    """A row, or why it is none."""
    try:
        return _json(raw)
    except RecursionError:
        return InvalidRecord("nested too deeply")
    except ValueError:
        return InvalidRecord("not JSON in UTF-8")


def _wrapped(raw: bytes) -> list[Any] | None:
    """The rows of one object: those it wraps, or itself; null where it is not one object but lines of them."""
    try:
        found = _json(raw)
    except (ValueError, RecursionError):
        return None
    if "chosen" in found:
        return [found]
    rows = next((found[name] for name in WRAPPERS if isinstance(found.get(name), list)), [found])
    # Hugging Face's viewer wraps each row once more.
    return [row["row"] if isinstance(row, dict) and isinstance(row.get("row"), dict) else row for row in rows]


def _lines(raw: bytes) -> Iterator[tuple[int, Any]]:
    """Split on newlines only: texts may hold other characters that Python takes for ends of lines."""
    for number, line in enumerate(raw.split(b"\n"), start=1):
        if line.strip():
            yield number, _json_row(line)


def _table(path: Path, text: str, delimiter: str) -> list[dict[str, Any]]:
    """Rows by the names of the first line. A cell that holds messages as JSON is those; an empty cell is absent."""
    csv.field_size_limit(1 << 30)
    try:
        found = list(csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter))
    except csv.Error as error:
        raise UnreadableImport(f"{path} is no table: {error}. Fix the file; nothing was written.") from error
    return [{name: _cell(name, value) for name, value in row.items() if name is not None} for row in found]


def _cell(name: str, value: str | None) -> Any:
    if value and value.lstrip()[:1] in ("[", "{"):
        try:
            found = _json(value)
        except (ValueError, RecursionError):
            return value
        if name in STRUCTURED and isinstance(found, list):
            return found
        items = found if isinstance(found, list) else [found]
        if items and all(isinstance(each, dict) and {"role", "from", "messages"} & each.keys() for each in items):
            return found
    return value or None


def _parquet(path: Path, raw: bytes) -> list[dict[str, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        rows: list[dict[str, Any]] = pq.read_table(pa.BufferReader(raw)).to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise UnreadableImport(f"{path} is no Parquet file: {error}. Fix the file; nothing was written.") from error
    return rows
