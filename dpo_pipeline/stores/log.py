"""Append-only JSONL: a line is acknowledged only when it is on disk, and read back only when it is whole.

Writing: under the file lock, one `os.write` of whole lines on an O_APPEND descriptor, the length
checked (short: truncated back), then one `fdatasync` for all that waited together. Reading: up to
the last newline, split on "\\n" only, because texts hold U+2028. What a line means belongs to `core`.
"""

import fcntl
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, Protocol

from dpo_pipeline.errors import LogWriteError
from dpo_pipeline.stores.artifacts import replacing


def file_bytes(path: Path) -> int:
    """The size of a log; 0 before its first line."""
    return path.stat().st_size if path.exists() else 0


class Log(Protocol):
    """Where lines are put on record, one after the other."""

    path: Path

    def append(self, line: bytes) -> None: ...

    def append_all(self, lines: Sequence[bytes]) -> None: ...


Change = Callable[[bytes], bytes | None]
"""What becomes of a line, without its newline: another one, or null for none."""


class Logs(Protocol):
    """The logs of a data folder: files, or with a database that machines share a copy of what stands there."""

    def open(self, path: Path, durable: bool = True) -> Log: ...

    def rewrite(self, path: Path, change: Change) -> int:
        """Change or remove lines of a log, all in one step; returns how many.

        Programs that append must be stopped. A log of which nothing changes stays as it is.
        """
        ...

    def remove(self, path: Path) -> None:
        """A log whose time is over."""
        ...


class AppendLog:
    """A log that any number of threads and processes may append to, one sync for each call.

    Where many wait at once, `stores.group_commit` lets them share one.
    """

    def __init__(self, path: Path, durable: bool = True):
        """`durable=False` leaves out the sync: for records that may be lost with the power."""
        self.path = path
        self._durable = durable

    def append(self, line: bytes) -> None:
        """Put one line (without its newline) on disk; on return it survives kill -9 and power loss.

        Raises:
            LogWriteError: nothing of this line is in the file; the next append is whole again.
        """
        self.append_all([line])

    def append_all(self, lines: Sequence[bytes]) -> None:
        """Like `append` for several lines, all or none of them."""
        if any(b"\n" in line for line in lines):
            raise LogWriteError("A log line must not hold a newline; encode it as JSON first. Nothing was written.")
        try:
            _write_whole(self.path, b"".join(line + b"\n" for line in lines), self._durable)
        except OSError as error:
            raise LogWriteError(
                f"{self.path}: {error.strerror or error}. The event is not recorded; free some space and send it again."
            ) from error


class FileLogs:
    """Files of this machine."""

    def open(self, path: Path, durable: bool = True) -> AppendLog:
        return AppendLog(path, durable)

    def rewrite(self, path: Path, change: Change) -> int:
        if not path.exists():
            return 0
        with path.open("rb") as log:
            fcntl.flock(log, fcntl.LOCK_EX)
            # Looked through first: a file that is replaced, though equal, is another one to whoever read it.
            changed = sum(change(line) != line for line in _lines(log))
            if changed:
                log.seek(0)
                with replacing(path) as file:
                    wanted = (change(line) for line in _lines(log))
                    file.writelines(line + b"\n" for line in wanted if line is not None)
        return changed

    def remove(self, path: Path) -> None:
        path.unlink(missing_ok=True)


def _lines(log: BinaryIO) -> Iterator[bytes]:
    return (line.removesuffix(b"\n") for line in log)


FILES = FileLogs()


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
