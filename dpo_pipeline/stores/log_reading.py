"""Logs as they are read: whole lines after a position, in chunks; another file than the one read before is refused."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple

from dpo_pipeline.errors import LogReplaced

# Small enough that the memory of one chunk serves the next one: fresh pages cost more than reading.
CHUNK_BYTES = 1024 * 1024
READ_BYTES = 256 * 1024


@dataclass(frozen=True)
class Position:
    """How far a log was read, and proof that it is still the same file."""

    offset: int = 0
    inode: int = 0
    device: int = 0


class Line(NamedTuple):
    """`data` is null where the line is longer than allowed; `offset` is that of its first byte."""

    offset: int
    length: int
    data: bytes | None


@dataclass(frozen=True)
class LineBatch:
    """Lines in file order and the position behind them."""

    lines: list[Line]
    end: Position


def read_batches(
    path: Path, start: Position, max_line_bytes: int, chunk_bytes: int = CHUNK_BYTES, until: int | None = None
) -> Iterator[LineBatch]:
    """The whole lines after `start`, a chunk at a time; a tail without newline waits for the next call.

    Memory stays at about two chunks whatever the file holds: of a line longer than
    `max_line_bytes` only its place is reported.

    Args:
        until: the byte to stop before, where this is one of the `spans`; the end of the file otherwise.

    Raises:
        LogReplaced: the file is shorter than `start`, gone, or another file.
    """
    if not _begun(path, start):
        return
    limit = max_line_bytes + 1
    with path.open("rb", buffering=READ_BYTES) as file:
        found = _same_log(file, path, start)
        file.seek(start.offset)
        stop = found.st_size if until is None else until
        offset, skipped, lines, full = start.offset, 0, list[Line](), start.offset + chunk_bytes
        while offset + skipped < stop:
            raw = file.readline(limit)
            if not raw.endswith(b"\n"):
                if len(raw) < limit:
                    break
                # The line goes on: keep its length, not its bytes.
                skipped += len(raw)
                continue
            length = skipped + len(raw) - 1
            lines.append(Line(offset, length, None if skipped else raw[:-1]))
            offset, skipped = offset + length + 1, 0
            if offset >= full:
                yield LineBatch(lines, Position(offset, found.st_ino, found.st_dev))
                lines, full = [], offset + chunk_bytes
        if lines:
            yield LineBatch(lines, Position(offset, found.st_ino, found.st_dev))


def read_places(path: Path, places: Iterable[tuple[int, int]]) -> Iterator[bytes]:
    """Lines that were read before, without their newlines.

    Args:
        places: offset and length of each, as `Line` gave them.

    Raises:
        LogReplaced: no line of that length ends there any more.
    """
    with path.open("rb") as file:
        for offset, length in places:
            file.seek(offset)
            line = file.read(length + 1)
            if len(line) != length + 1 or not line.endswith(b"\n"):
                raise LogReplaced(_replaced(path, Position(offset + length + 1), "no line ends there any more"))
            yield line[:-1]


def spans(path: Path, start: Position, span_bytes: int) -> Iterator[tuple[Position, int]]:
    """What lies behind `start`, cut behind newlines into pieces of about `span_bytes` for several readers.

    Yields:
        (start, until) as `read_batches` takes them.

    Raises:
        LogReplaced: as `read_batches`.
    """
    if not _begun(path, start):
        return
    with path.open("rb") as file:
        found = _same_log(file, path, start)
        begin = start.offset
        while begin < found.st_size:
            end = min(_behind_newline(file, begin + span_bytes - 1), found.st_size)
            yield Position(begin, found.st_ino, found.st_dev), end
            begin = end


def _behind_newline(file: BinaryIO, offset: int) -> int:
    """The byte behind the first newline at or after `offset`, or the end of the file."""
    file.seek(offset)
    while block := file.read(READ_BYTES):
        found = block.find(b"\n")
        if found >= 0:
            return offset + found + 1
        offset += len(block)
    return offset


def line_start(path: Path, offset: int) -> int:
    """Where the line that `offset` lies in begins: an offset may stand in a torn line, or in one being written."""
    with path.open("rb") as file:
        while offset > 0:
            begin = max(0, offset - READ_BYTES)
            file.seek(begin)
            found = file.read(offset - begin).rfind(b"\n")
            if found >= 0:
                return begin + found + 1
            offset = begin
    return 0


def _begun(path: Path, start: Position) -> bool:
    """Whether there is a log already; one that was read before must not be gone."""
    if path.exists():
        return True
    if start.offset:
        raise LogReplaced(_replaced(path, start, "the file is gone"))
    return False


def _same_log(file: BinaryIO, path: Path, start: Position) -> os.stat_result:
    """The state of the open log, if it is the one that was read up to `start`."""
    found = os.fstat(file.fileno())
    if start.offset and (found.st_ino, found.st_dev) != (start.inode, start.device):
        raise LogReplaced(_replaced(path, start, "another file stands in its place"))
    if found.st_size < start.offset:
        raise LogReplaced(_replaced(path, start, f"the file holds only {found.st_size} bytes"))
    if start.offset:
        file.seek(start.offset - 1)
        if file.read(1) != b"\n":
            raise LogReplaced(_replaced(path, start, "no line ends there any more"))
    return found


def _replaced(path: Path, start: Position, found: str) -> str:
    return (
        f"{path} was read up to byte {start.offset}, but {found}. Put the file back as it was, or, if the change was "
        "meant, run `dpo rebuild`: the warehouse is then built again from the log as it stands."
    )


def days_of(directory: Path) -> list[Path]:
    """The file of each day, oldest first, where a log has a file a day."""
    return sorted(directory.glob("????-??-??.jsonl"))
