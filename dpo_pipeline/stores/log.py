"""Append-only JSONL: a line is acknowledged only when it is on disk, and read back only when it is whole.

Writing: under the file lock, one `os.write` of whole lines on an O_APPEND descriptor, the length
checked (short: truncated back), then one `fdatasync` for all that waited together. Reading: up to
the last newline, split on "\\n" only, because texts hold U+2028. What a line means belongs to `core`.
"""

import fcntl
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dpo_pipeline.errors import LogReplaced, LogWriteError


class AppendLog:
    """A log that any number of threads and processes may append to."""

    def __init__(self, path: Path, durable: bool = True):
        """`durable=False` leaves out the sync: for records that may be lost with the power."""
        self.path = path
        self._durable = durable
        self._gate = threading.Condition()
        self._waiting: list[_Pending] = []
        self._writing = False

    def append(self, line: bytes) -> None:
        """Put one line (without its newline) on disk; on return it survives kill -9 and power loss.

        Threads that arrive during another's sync share the next one.

        Raises:
            LogWriteError: nothing of this line is in the file; the next append is whole again.
        """
        self.append_all([line])

    def append_all(self, lines: list[bytes]) -> None:
        """Like `append` for several lines, all or none of them."""
        if any(b"\n" in line for line in lines):
            raise LogWriteError("A log line must not hold a newline; encode it as JSON first. Nothing was written.")
        pending = _Pending(b"".join(line + b"\n" for line in lines))
        with self._gate:
            self._waiting.append(pending)
            while self._writing and not pending.done:
                self._gate.wait()
            if not pending.done:
                batch, self._waiting = self._waiting, []
                self._writing = True
        if not pending.done:
            self._lead(batch)
        if pending.error:
            raise pending.error

    def _lead(self, batch: "list[_Pending]") -> None:
        """Write for everybody who waits; the error, if any, is everybody's."""
        error: LogWriteError | None = None
        try:
            _write_whole(self.path, b"".join(pending.data for pending in batch), self._durable)
        except OSError as cause:
            error = LogWriteError(
                f"{self.path}: {cause.strerror or cause}. The event is not recorded; free some space and send it again."
            )
            error.__cause__ = cause
        finally:
            with self._gate:
                for pending in batch:
                    pending.done = True
                    pending.error = error
                self._writing = False
                self._gate.notify_all()


class _Pending:
    """Lines of one caller on their way to the disk."""

    __slots__ = ("data", "done", "error")

    def __init__(self, data: bytes):
        self.data = data
        self.done = False
        self.error: LogWriteError | None = None


def _write_whole(path: Path, data: bytes, durable: bool) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        start = os.fstat(descriptor).st_size
        if start and os.pread(descriptor, 1, start - 1) != b"\n":
            # Another program died in the middle of a line: close it, so that ours stands alone.
            data = b"\n" + data
        try:
            written = os.write(descriptor, data)
            if written != len(data):
                raise OSError(28, f"only {written} of {len(data)} bytes fitted on the disk")
            if durable:
                os.fdatasync(descriptor)
        except OSError:
            os.ftruncate(descriptor, start)
            raise
    finally:
        os.close(descriptor)


@dataclass(frozen=True)
class Position:
    """How far a log was read, and proof that it is still the same file."""

    offset: int = 0
    inode: int = 0
    device: int = 0


@dataclass(frozen=True)
class Line:
    """`data` is null where the line is longer than allowed; `offset` is that of its first byte."""

    offset: int
    length: int
    data: bytes | None


@dataclass(frozen=True)
class Batch:
    """Lines in file order and the position behind them."""

    lines: list[Line]
    end: Position


def read_batches(
    path: Path, start: Position, max_line_bytes: int, chunk_bytes: int = 64 * 1024 * 1024
) -> Iterator[Batch]:
    """The whole lines after `start`, a chunk at a time; a tail without newline waits for the next call.

    Memory stays at about two chunks whatever the file holds: of a line longer than
    `max_line_bytes` only its place is reported.

    Raises:
        LogReplaced: the file is shorter than `start`, gone, or another file.
    """
    if not path.exists():
        if start.offset:
            raise LogReplaced(_replaced(path, start, "the file is gone"))
        return
    with path.open("rb") as file:
        found = os.fstat(file.fileno())
        if start.offset and (found.st_ino, found.st_dev) != (start.inode, start.device):
            raise LogReplaced(_replaced(path, start, "another file stands in its place"))
        if found.st_size < start.offset:
            raise LogReplaced(_replaced(path, start, f"the file holds only {found.st_size} bytes"))
        if start.offset:
            file.seek(start.offset - 1)
            if file.read(1) != b"\n":
                raise LogReplaced(_replaced(path, start, "no line ends there any more"))
        offset, tail, skipped = start.offset, b"", 0
        while chunk := file.read(chunk_bytes):
            data = tail + chunk
            end = data.rfind(b"\n") + 1
            if not end:
                # Not one newline: a long line in the making. Keep its length, not its bytes.
                keep = data if len(data) <= max_line_bytes and not skipped else b""
                skipped += len(data) - len(keep)
                tail = keep
                continue
            lines = []
            for raw in data[: end - 1].split(b"\n"):
                length = len(raw) + skipped
                lines.append(Line(offset, length, None if length > max_line_bytes else raw))
                offset += length + 1
                skipped = 0
            tail = data[end:]
            yield Batch(lines, Position(offset, found.st_ino, found.st_dev))


def _replaced(path: Path, start: Position, found: str) -> str:
    return (
        f"{path} was read up to byte {start.offset}, but {found}. Put the file back as it was, or, if the change was "
        "meant, run `dpo rebuild`: the warehouse is then built anew from the log as it stands."
    )
