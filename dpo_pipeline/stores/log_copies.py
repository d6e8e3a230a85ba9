"""The copies of shared logs in a data folder: the files there would be without a database, and how far they are."""

import fcntl
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import groupby
from operator import itemgetter
from pathlib import Path

import msgspec

from dpo_pipeline.errors import MigrationRefused
from dpo_pipeline.stores.artifacts import replacing, write_text
from dpo_pipeline.stores.log import file_bytes
from dpo_pipeline.stores.log_tables import LogLine

COPY, LOCK = "shared_logs.json", "shared_logs.lock"


class Copied(msgspec.Struct, frozen=True):
    """How far a data folder's copies are: the last line that stands in them, the bytes of each file, and how often it
    had been rewritten.
    """

    written_by: int = 0
    number: int = 0
    sizes: dict[str, int] = {}
    rewrites: dict[str, int] = {}


class LogCopies:
    """One program at a time writes them: whoever does is `alone`."""

    def __init__(self, data_dir: Path):
        self._dir = data_dir

    def name(self, path: Path) -> str:
        """What a log is called in the database: its path in a data folder."""
        return path.relative_to(self._dir).as_posix()

    @contextmanager
    def alone(self) -> Iterator[None]:
        self._dir.mkdir(parents=True, exist_ok=True)
        lock = os.open(self._dir / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)

    def copied(self) -> Copied:
        """How far the copies here are."""
        with suppress(FileNotFoundError):
            return msgspec.json.decode((self._dir / COPY).read_bytes(), type=Copied)
        return Copied()

    def note(self, copied: Copied) -> None:
        write_text(self._dir / COPY, msgspec.json.encode(copied).decode())

    def take_over(self, copied: Copied) -> None:
        """Files that stand here already, equal to the copies elsewhere, are this folder's copies from now on."""
        with self.alone():
            self.note(copied)

    def is_whole(self, log: str, copied: Copied) -> bool:
        """Whether all that was copied stands there still."""
        return file_bytes(self._dir / log) >= copied.sizes[log]

    def replace(self, log: str, lines: Iterable[bytes]) -> int:
        """Make a copy again; returns its bytes, of which there are none where there is no line: then it is gone."""
        path = self._dir / log
        # Another file, not one that was emptied: whoever was reading it must see that.
        with replacing(path) as file:
            file.writelines(line + b"\n" for line in lines)
            size = file.tell()
        if not size:
            path.unlink()
        return size

    def write(self, copied: Copied, rows: Sequence[LogLine], rewrites: dict[str, int]) -> Copied:
        """Add settled lines to the copies; returns how far these are now."""
        by_log = {log: list(group) for log, group in groupby(sorted(rows, key=itemgetter(2)), key=itemgetter(2))}
        sizes = copied.sizes | self._begun(by_log.keys() - copied.sizes.keys())
        if sizes != copied.sizes:  # before anything is written: a file that is not noted is nobody's copy
            self.note(msgspec.structs.replace(copied, sizes=sizes, rewrites=rewrites))
        for log, of_log in by_log.items():
            descriptor = os.open(self._dir / log, os.O_RDWR | os.O_CREAT, 0o644)
            with os.fdopen(descriptor, "r+b") as file:
                # What stands behind is of a turn that was interrupted: these are the same lines.
                file.seek(sizes[log])
                file.writelines(part for *_, line in of_log for part in (line, b"\n"))
                file.truncate()
                sizes[log] = file.tell()
        copied = Copied(rows[-1][0], rows[-1][1], sizes, rewrites)
        self.note(copied)
        return copied

    def refuse_own(self, paths: Iterable[Path]) -> None:
        """
        Raises:
            MigrationRefused: one of these files is no copy.
        """
        lines = [path for path in paths if path.exists() and file_bytes(path)]
        copies = self.copied().sizes  # after the files were looked at: a copy is noted before it is written
        for path in lines:
            if self.name(path) not in copies and path.exists() and file_bytes(path):  # not emptied meanwhile
                raise MigrationRefused(_own(path))

    def _begun(self, logs: Iterable[str]) -> dict[str, int]:
        """
        Raises:
            MigrationRefused: a file stands where a copy would begin.
        """
        for log in logs:
            path = self._dir / log
            if path.exists():
                raise MigrationRefused(_own(path))
            path.parent.mkdir(parents=True, exist_ok=True)
        return dict.fromkeys(logs, 0)


def _own(path: Path) -> str:
    return (
        f"{path} is a log of this folder's own, which the database does not have. Bring it there with `dpo migrate` "
        "(DPO_DATABASE_URL left out), or set DPO_DATA_DIR to an empty folder. Nothing was changed."
    )
