"""The logs of several machines in one Postgres: a row a line, and on each machine a copy of every log as the file it
would be without a database.

Everything that reads logs reads that copy. All copies are equal, byte for byte: lines stand in the order of the
transactions that wrote them, and a line is copied only when no transaction before it is still under way. A sequence
number alone would lose lines: one that is drawn early may be committed late.
"""

import fcntl
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from itertools import groupby
from operator import itemgetter
from pathlib import Path

import msgspec
import sqlalchemy as sa

from dpo_pipeline.errors import DatabaseUnavailable, LogWriteError, MigrationRefused
from dpo_pipeline.stores.artifacts import replacing, write_text
from dpo_pipeline.stores.database import connected, create_once, insert
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
    sa.Index("log_lines_of", "log", "written_by", "number"),
)
"""`written_by` is the transaction; `log` the path of the file in a data folder; of a `key` each log has one line."""
REWRITES = sa.Table(
    "log_rewrites",
    METADATA,
    sa.Column("log", sa.Text, primary_key=True),
    sa.Column("count", sa.BigInteger, nullable=False),
)
"""How often lines that stood in a log were changed or removed. Copies made before are made again."""

COPY, LOCK = "shared_logs.json", "shared_logs.lock"
AT_ONCE = 20_000
SETTLED = sa.text("written_by < (pg_snapshot_xmin(pg_current_snapshot())::text)::bigint")
"""Older than the oldest transaction that is under way: all of those are over, and what they wrote is all there."""
PLACE = sa.tuple_(LINES.c.written_by, LINES.c.number)
INSERT = sa.text(
    "insert into log_lines (log, key, line) select :log, key, line "
    "from unnest(cast(:keys as text[]), cast(:lines as bytea[])) with ordinality as given (key, line, place) "
    "order by place on conflict (log, key) do nothing returning key"
)
LogLine = sa.Row[int, int, str, bytes]


def prepare(engine: sa.Engine) -> None:
    """Create the tables where they are missing.

    Raises:
        DatabaseUnavailable
    """
    create_once(engine, METADATA)


class _Ids(msgspec.Struct):
    review_id: str = ""
    event_id: str = ""
    request_id: str = ""


_ids = msgspec.json.Decoder(_Ids)


def key_of(line: bytes) -> str | None:
    """By what a line that is sent again is known; null where a log may hold the same twice."""
    try:
        ids = _ids.decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    return ids.review_id or ids.event_id or ids.request_id or None


class Copied(msgspec.Struct, frozen=True):
    """How far a data folder's copies are: the last line that stands in them, the bytes of each file, and how often it
    had been rewritten.
    """

    written_by: int = 0
    number: int = 0
    sizes: dict[str, int] = {}
    rewrites: dict[str, int] = {}


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
            return _lines_under(connection, log, earlier)

    def lines(self, path: Path, keys: Sequence[str]) -> dict[str, bytes]:
        """The lines that stand under these keys; raises DatabaseUnavailable."""
        with connected(self.engine) as connection:
            return _lines_under(connection, self._name(path), keys)

    def count(self, path: Path) -> int:
        """How many lines a log has."""
        return self.count_of(self._name(path))

    def count_of(self, log: str) -> int:
        """Likewise, by its path in a data folder."""
        query = sa.select(sa.func.count()).select_from(LINES).where(LINES.c.log == log)
        with connected(self.engine) as connection:
            return int(connection.scalar(query) or 0)

    def names(self) -> list[str]:
        """Of all logs that the database has, as paths in a data folder."""
        with connected(self.engine) as connection:
            return list(connection.scalars(sa.select(LINES.c.log).distinct().order_by(LINES.c.log)))

    def follow(self) -> int:
        """Bring the copies up to what is settled; returns how many lines came. Any number of programs may call it.

        Raises:
            DatabaseUnavailable: the copies stay as far as they are.
            MigrationRefused: a log of this folder's own stands where a copy would go.
        """
        with self._alone():
            return self._follow(self.copied())

    def copied(self) -> Copied:
        """How far the copies here are."""
        with suppress(FileNotFoundError):
            return msgspec.json.decode((self._dir / COPY).read_bytes(), type=Copied)
        return Copied()

    def take_over(self, copied: Copied) -> None:
        """Files that stand here already, equal to the copies elsewhere, are this folder's copies from now on."""
        with self._alone():
            self._note(copied)

    def rewrite(self, path: Path, change: Change) -> int:
        """As `stores.log.Logs` says, on every machine.

        Raises:
            DatabaseUnavailable: nothing was changed.
        """
        log, changed = self._name(path), 0
        with connected(self.engine) as connection:
            connection.execute(sa.text("lock table log_lines in share row exclusive mode"))
            for written_by, number, _, found in self._lines_of(connection, log):
                line = bytes(found)
                wanted = change(line)
                if wanted == line:
                    continue
                changed += 1
                this = (LINES.c.written_by == written_by, LINES.c.number == number)
                connection.execute(
                    sa.delete(LINES).where(*this)
                    if wanted is None
                    else sa.update(LINES).where(*this).values(line=wanted)
                )
            if changed:
                _count_rewrite(connection, log)
        if changed:
            self.follow()
        return changed

    def remove(self, path: Path) -> None:
        """As `stores.log.Logs` says; the copies of other machines go when they follow.

        Raises:
            DatabaseUnavailable
        """
        log = self._name(path)
        with connected(self.engine) as connection:
            connection.execute(sa.delete(LINES).where(LINES.c.log == log))
            _count_rewrite(connection, log)
        self.follow()

    def _name(self, path: Path) -> str:
        return path.relative_to(self._dir).as_posix()

    def _note(self, copied: Copied) -> None:
        write_text(self._dir / COPY, msgspec.json.encode(copied).decode())

    def _follow(self, copied: Copied) -> int:
        came = 0
        while True:
            with connected(self.engine) as connection:
                rewrites = dict(connection.execute(sa.select(REWRITES.c.log, REWRITES.c.count)).all())
                copied = self._made_again(connection, copied, rewrites)
                after = (copied.written_by, copied.number) < PLACE
                rows = _binary(connection, _lines().where(SETTLED, after).limit(AT_ONCE))
            if not rows:
                return came
            copied = self._write(copied, rows, rewrites)
            came += len(rows)
            if len(rows) < AT_ONCE:
                return came

    def _made_again(self, connection: sa.Connection, copied: Copied, rewrites: dict[str, int]) -> Copied:
        """Copies of logs that were rewritten, deleted here, or whose end went down with the power."""
        sizes = dict(copied.sizes)
        for log, size in copied.sizes.items():
            if rewrites.get(log, 0) == copied.rewrites.get(log, 0) and file_bytes(self._dir / log) >= size:
                continue
            path, until = self._dir / log, (copied.written_by, copied.number)
            # Another file, not one that was emptied: whoever was reading it must see that.
            with replacing(path) as file:
                for *_, line in self._lines_of(connection, log, until):
                    file.write(bytes(line) + b"\n")
                sizes[log] = file.tell()
            if not sizes[log]:
                path.unlink()
                del sizes[log]
        if (sizes, rewrites) == (copied.sizes, copied.rewrites):
            return copied
        copied = msgspec.structs.replace(copied, sizes=sizes, rewrites=rewrites)
        self._note(copied)
        return copied

    def _lines_of(self, connection: sa.Connection, log: str, until: tuple[int, int] | None = None) -> Iterator[LogLine]:
        """All lines of a log, oldest first, some at a time."""
        after = (0, 0)
        while True:
            query = _lines().where(LINES.c.log == log, after < PLACE)
            if until is not None:
                query = query.where(until >= PLACE)
            rows = connection.execute(query.limit(AT_ONCE)).all()
            yield from rows
            if len(rows) < AT_ONCE:
                return
            after = rows[-1][0], rows[-1][1]

    def _write(self, copied: Copied, rows: Sequence[LogLine], rewrites: dict[str, int]) -> Copied:
        by_log = {log: list(group) for log, group in groupby(sorted(rows, key=itemgetter(2)), key=itemgetter(2))}
        sizes = copied.sizes | self._begun(by_log.keys() - copied.sizes.keys())
        if sizes != copied.sizes:  # before anything is written: a file that is not noted is nobody's copy
            self._note(msgspec.structs.replace(copied, sizes=sizes, rewrites=rewrites))
        for log, of_log in by_log.items():
            descriptor = os.open(self._dir / log, os.O_RDWR | os.O_CREAT, 0o644)
            with os.fdopen(descriptor, "r+b") as file:
                # What stands behind is of a turn that was interrupted: these are the same lines.
                file.seek(sizes[log])
                file.writelines(part for *_, line in of_log for part in (line, b"\n"))
                file.truncate()
                sizes[log] = file.tell()
        copied = Copied(rows[-1][0], rows[-1][1], sizes, rewrites)
        self._note(copied)
        return copied

    def refuse_own(self, paths: Iterable[Path]) -> None:
        """
        Raises:
            MigrationRefused: one of these files is no copy.
        """
        lines = [path for path in paths if path.exists() and file_bytes(path)]
        copies = self.copied().sizes  # after the files were looked at: a copy is noted before it is written
        for path in lines:
            if self._name(path) not in copies and path.exists() and file_bytes(path):  # not emptied meanwhile
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

    @contextmanager
    def _alone(self) -> Iterator[None]:
        self._dir.mkdir(parents=True, exist_ok=True)
        lock = os.open(self._dir / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)


def _lines_under(connection: sa.Connection, log: str, keys: Sequence[str]) -> dict[str, bytes]:
    query = sa.select(LINES.c.key, LINES.c.line).where(LINES.c.log == log, LINES.c.key.in_(keys))
    return {key: bytes(line) for key, line in connection.execute(query)}


def _lines() -> sa.Select[int, int, str, bytes]:
    columns = (LINES.c.written_by, LINES.c.number, LINES.c.log, LINES.c.line)
    return sa.select(*columns).order_by(LINES.c.written_by, LINES.c.number)


def _binary(connection: sa.Connection, query: sa.Select[int, int, str, bytes]) -> list[LogLine]:
    """The same rows in half the time: by default lines come as text, two digits a byte."""
    compiled = query.compile(dialect=connection.dialect, compile_kwargs={"render_postcompile": True})
    with closing(connection.connection.cursor(binary=True)) as cursor:
        cursor.execute(str(compiled), compiled.params)
        return list(cursor.fetchall())


def _count_rewrite(connection: sa.Connection, log: str) -> None:
    counted = insert(REWRITES).values(log=log, count=1)
    again = {"count": REWRITES.c.count + 1}
    connection.execute(counted.on_conflict_do_update(index_elements=[REWRITES.c.log], set_=again))


class SharedLog:
    """One log of `SharedLogs`, as `stores.log.Log` says."""

    def __init__(self, logs: SharedLogs, path: Path, durable: bool):
        self.path = path
        self._logs, self._durable = logs, durable

    def append(self, line: bytes) -> None:
        self.append_all([line])

    def append_all(self, lines: Sequence[bytes]) -> None:
        try:
            self._logs.append(self.path, lines, [key_of(line) for line in lines])
        except DatabaseUnavailable as error:
            raise LogWriteError(f"{self.path.name} is not written. {error}") from error
        if self._durable:
            with suppress(DatabaseUnavailable):  # it is written all the same; the next turn brings it here
                self._logs.follow()


def _own(path: Path) -> str:
    return (
        f"{path} is a log of this folder's own, which the database does not have. Bring it there with `dpo migrate` "
        "(DPO_DATABASE_URL left out), or set DPO_DATA_DIR to an empty folder. Nothing was changed."
    )
