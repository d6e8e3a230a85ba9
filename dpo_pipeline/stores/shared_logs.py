"""The logs of several machines in one Postgres: a row a line, and on each machine a copy of every log as the file it
would be without a database.

Everything that reads logs reads that copy. All copies are equal, byte for byte: lines stand in the order of the
transactions that wrote them, and a line is copied only when no transaction before it is still under way. A sequence
number alone would lose lines: one that is drawn early may be committed late.
"""

import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import groupby
from operator import itemgetter
from pathlib import Path

import msgspec
import sqlalchemy as sa

from dpo_pipeline.errors import DatabaseUnavailable, LogWriteError
from dpo_pipeline.stores.artifacts import write_text
from dpo_pipeline.stores.database import connected, create_once
from dpo_pipeline.stores.log import Change, file_bytes

METADATA = sa.MetaData()
LINES = sa.Table(
    "log_lines",
    METADATA,
    sa.Column("written_by", sa.BigInteger, server_default=sa.text("(pg_current_xact_id()::text)::bigint")),
    sa.Column("number", sa.BigInteger, sa.Identity(), nullable=False),
    sa.Column("log", sa.Text, nullable=False),
    sa.Column("key", sa.Text),
    sa.Column("line", sa.LargeBinary, nullable=False),
    sa.PrimaryKeyConstraint("written_by", "number"),
    sa.Index("log_lines_key", "log", "key", unique=True),
)
"""`written_by` is the transaction; `log` the path of the file in a data folder; of a `key` each log has one line."""
REWRITES = sa.Table(
    "log_rewrites",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("count", sa.BigInteger, nullable=False),
)
"""One row: how often lines that stood there were changed or removed. Copies made before begin again."""

COPY, LOCK = "shared_logs.json", "shared_logs.lock"
AT_ONCE = 20_000
SETTLED = "(pg_snapshot_xmin(pg_current_snapshot())::text)::bigint"
"""The oldest transaction that is under way: all before it are over, and what they wrote is all there."""
NEXT_LINES = sa.text(
    f"select written_by, number, log, line from log_lines where written_by < {SETTLED} "
    "and (written_by, number) > (:written_by, :number) order by written_by, number limit :at_once"
)
INSERT = sa.text(
    "insert into log_lines (log, key, line) select :log, key, line "
    "from unnest(cast(:keys as text[]), cast(:lines as bytea[])) with ordinality as given (key, line, place) "
    "order by place on conflict (log, key) do nothing returning key"
)


def prepare(engine: sa.Engine) -> None:
    """Create the tables where they are missing.

    Raises:
        DatabaseUnavailable
    """
    create_once(engine, METADATA)
    with connected(engine) as connection:
        connection.execute(sa.text("insert into log_rewrites values (1, 0) on conflict do nothing"))


class _Copied(msgspec.Struct, frozen=True):
    """How far a data folder's copies are: the last line that stands in them, and the bytes of each file."""

    written_by: int = 0
    number: int = 0
    rewrites: int = 0
    sizes: dict[str, int] = {}


class SharedLogs:
    """The logs of one data folder.

    Args:
        data_dir: where the copies are.
    """

    def __init__(self, engine: sa.Engine, data_dir: Path):
        self.engine, self._dir = engine, data_dir

    def open(self, path: Path, durable: bool = True) -> "SharedLog":
        """The log whose copy is this file. What the database has taken, it keeps; of what is `durable`, the copy here
        is brought up to it at once.
        """
        return SharedLog(self, path, durable)

    def append(self, path: Path, lines: Sequence[bytes], keys: Sequence[str | None]) -> dict[str, bytes]:
        """Add lines to a log; of a key that is there, the line that stands there stays.

        Returns:
            The lines that stood there, by key.

        Raises:
            DatabaseUnavailable: nothing was written, or nobody can tell whether it was: with keys, ask again.
        """
        log = self._name(path)
        with connected(self.engine) as connection:
            given = {"log": log, "keys": list(keys), "lines": list(lines)}
            new = {key for (key,) in connection.execute(INSERT, given)}
            earlier = [key for key in keys if key is not None and key not in new]
            if not earlier:
                return {}
            query = sa.select(LINES.c.key, LINES.c.line).where(LINES.c.log == log, LINES.c.key.in_(earlier))
            return {key: bytes(line) for key, line in connection.execute(query)}

    def count(self, path: Path) -> int:
        """How many lines a log has."""
        query = sa.select(sa.func.count()).select_from(LINES).where(LINES.c.log == self._name(path))
        with connected(self.engine) as connection:
            return int(connection.scalar(query) or 0)

    def follow(self) -> int:
        """Bring the copies up to what is settled; returns how many lines came. Any number of programs may call it.

        Raises:
            DatabaseUnavailable: the copies stay as far as they are.
        """
        with self._alone() as copied:
            return self._follow(copied)

    def rewrite(self, path: Path, change: Change) -> int:
        """As `stores.log.Logs` says, on every machine.

        Raises:
            DatabaseUnavailable: nothing was changed.
        """
        where = (LINES.c.log == self._name(path),)
        changed = 0
        with connected(self.engine) as connection:
            connection.execute(sa.text("lock table log_lines in share row exclusive mode"))
            rows = connection.execute(sa.select(LINES.c.number, LINES.c.line).where(*where)).all()
            for number, found in rows:
                line = bytes(found)
                wanted = change(line)
                if wanted == line:
                    continue
                changed += 1
                this = (*where, LINES.c.number == number)
                connection.execute(
                    sa.delete(LINES).where(*this)
                    if wanted is None
                    else sa.update(LINES).where(*this).values(line=wanted)
                )
            if changed:
                connection.execute(sa.update(REWRITES).values(count=REWRITES.c.count + 1))
        if changed:
            self.follow()
        return changed

    def remove(self, path: Path) -> None:
        """As `stores.log.Logs` says; the copy on another machine goes when that one removes it.

        Raises:
            DatabaseUnavailable
        """
        log = self._name(path)
        with self._alone() as copied:
            with connected(self.engine) as connection:
                connection.execute(sa.delete(LINES).where(LINES.c.log == log))
            path.unlink(missing_ok=True)
            self._note(msgspec.structs.replace(copied, sizes={k: v for k, v in copied.sizes.items() if k != log}))

    def _name(self, path: Path) -> str:
        return path.relative_to(self._dir).as_posix()

    def _note(self, copied: _Copied) -> None:
        write_text(self._dir / COPY, msgspec.json.encode(copied).decode())

    def _follow(self, copied: _Copied) -> int:
        came = 0
        if not self._is_whole(copied):  # a file was deleted, or its end went down with the power
            self._begin_again(copied)
            copied = _Copied(rewrites=copied.rewrites)
        while True:
            with connected(self.engine) as connection:
                rewrites = connection.scalar(sa.select(REWRITES.c.count)) or 0
                if rewrites != copied.rewrites:
                    self._begin_again(copied)
                    copied = _Copied(rewrites=rewrites)
                last = {"written_by": copied.written_by, "number": copied.number, "at_once": AT_ONCE}
                rows = connection.execute(NEXT_LINES, last).all()
            if not rows:
                return came
            copied = self._write(copied, rows)
            came += len(rows)
            if len(rows) < AT_ONCE:
                return came

    def _write(self, copied: _Copied, rows: Sequence[sa.Row[int, int, str, bytes]]) -> _Copied:
        sizes = dict(copied.sizes)
        for log, group in groupby(sorted(rows, key=itemgetter(2)), key=itemgetter(2)):
            path = self._dir / log
            path.parent.mkdir(parents=True, exist_ok=True)
            data = b"".join(bytes(line) + b"\n" for *_, line in group)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
            with os.fdopen(descriptor, "r+b") as file:
                # What stands behind is of a turn that was interrupted: these are the same lines.
                file.seek(sizes.get(log, 0))
                file.write(data)
                file.truncate()
                sizes[log] = file.tell()
        written_by, number, *_ = rows[-1]
        copied = _Copied(written_by, number, copied.rewrites, sizes)
        self._note(copied)
        return copied

    def _is_whole(self, copied: _Copied) -> bool:
        return all(file_bytes(self._dir / log) >= size for log, size in copied.sizes.items())

    def _begin_again(self, copied: _Copied) -> None:
        """Other files, not emptied ones: whoever was reading one must see that it is another."""
        for log in copied.sizes:
            (self._dir / log).unlink(missing_ok=True)
        (self._dir / COPY).unlink(missing_ok=True)

    @contextmanager
    def _alone(self) -> Iterator[_Copied]:
        self._dir.mkdir(parents=True, exist_ok=True)
        lock = os.open(self._dir / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            with suppress(FileNotFoundError):
                yield msgspec.json.decode((self._dir / COPY).read_bytes(), type=_Copied)
                return
            yield _Copied()
        finally:
            os.close(lock)


class SharedLog:
    """One log of `SharedLogs`, as `stores.log.Log` says."""

    def __init__(self, logs: SharedLogs, path: Path, durable: bool):
        self.path = path
        self._logs, self._durable = logs, durable

    def append(self, line: bytes) -> None:
        self.append_all([line])

    def append_all(self, lines: Sequence[bytes]) -> None:
        try:
            self._logs.append(self.path, lines, [None] * len(lines))
        except DatabaseUnavailable as error:
            raise LogWriteError(f"{self.path.name} is not written. {error}") from error
        if self._durable:
            with suppress(DatabaseUnavailable):  # it is written all the same; the next turn brings it here
                self._logs.follow()
