"""What is left of a person in a data folder, wherever it stands: the last look after `dpo forget`.

Files are searched as bytes, whatever they are: SQLite's pages and logs, logs, caches and pages hold texts as they are.
Parquet is opened, since it is compressed. Texts are looked for as UTF-8 and as JSON writes them, with ASCII alone too.
"""

import html
import json
import mmap
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

SHORTEST = 12
"""Shorter texts, such as "Thanks!", are anybody's."""
NAMED = 60
LOOKED_FOR = 200
"""So many bytes of a text are looked for: databases split longer ones over their pages."""


@dataclass(frozen=True)
class Trace:
    """A file that still holds something; `what` is its beginning."""

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
            found = _in_parquet(path, needles) if path.suffix == ".parquet" else _in_bytes(path, needles)
        except FileNotFoundError:
            continue  # a program that runs took it away meanwhile
        if found is not None:
            yield Trace(path, found[:NAMED])


def forms_of(mark: str) -> set[bytes]:
    """How programs write a text: as it is, and inside of JSON, with other letters or escaped."""
    forms = (mark, html.escape(mark), json.dumps(mark)[1:-1], json.dumps(mark, ensure_ascii=False)[1:-1])
    return {form.encode("utf-8", "replace") for form in forms}


def _in_bytes(path: Path, needles: dict[bytes, str]) -> str | None:
    if not path.stat().st_size:
        return None
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return next((mark for needle, mark in needles.items() if content.find(needle) >= 0), None)


def _in_parquet(path: Path, needles: dict[bytes, str]) -> str | None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        for batch in pq.ParquetFile(path).iter_batches():
            content = json.dumps(batch.to_pylist(), ensure_ascii=False, default=str).encode("utf-8", "replace")
            found = next((mark for needle, mark in needles.items() if needle in content), None)
            if found is not None:
                return found
    except pa.ArrowException:  # cut, or none in spite of its name
        return _in_bytes(path, needles)
    return None
