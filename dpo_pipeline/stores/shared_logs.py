"""The logs of several machines in one Postgres: a row a line, and on each machine a copy of every log as the file it
would be without a database.

Everything that reads logs reads that copy. All copies are equal, byte for byte: lines stand in the order of the
transactions that wrote them, and a line is copied only when no transaction before it is still under way. A sequence
number alone would lose lines: one that is drawn early may be committed late.
"""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import msgspec
import sqlalchemy as sa

from dpo_pipeline.errors import DatabaseUnavailable, LogWriteError
from dpo_pipeline.stores.database import connected
from dpo_pipeline.stores.log import Change
from dpo_pipeline.stores.log_copies import Copied, LogCopies
from dpo_pipeline.stores.log_tables import (
    INSERT,
    LINES,
    PLACE,
    REWRITES,
    SETTLED,
    LogLine,
    count_rewrite,
    key_of,
    lines_under,
    ordered_lines,
    rows_of,
)

AT_ONCE = 20_000


class SharedLogs:
    """The logs of one data folder.

    Args:
        data_dir: where the copies are.
    """

    def __init__(self, engine: sa.Engine, data_dir: Path):
        self.engine, self.copies = engine, LogCopies(data_dir)

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
        log = self.copies.name(path)
        with connected(self.engine) as connection:
            given = {"log": log, "keys": list(keys), "lines": list(lines)}
            new = {key for (key,) in connection.execute(INSERT, given)}
            earlier = [key for key in keys if key is not None and key not in new]
            if not earlier:
                return {}
            return lines_under(connection, log, earlier)

    def lines(self, path: Path, keys: Sequence[str]) -> dict[str, bytes]:
        """The lines that stand under these keys; raises DatabaseUnavailable."""
        with connected(self.engine) as connection:
            return lines_under(connection, self.copies.name(path), keys)

    def count(self, path: Path) -> int:
        """How many lines a log has."""
        return self.count_of(self.copies.name(path))

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
        with self.copies.alone():
            return self._follow(self.copies.copied())

    def rewrite(self, path: Path, change: Change) -> int:
        """As `stores.log.Logs` says, on every machine.

        Raises:
            DatabaseUnavailable: nothing was changed.
        """
        log, changed = self.copies.name(path), 0
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
                count_rewrite(connection, log)
        if changed:
            self.follow()
        return changed

    def remove(self, path: Path) -> None:
        """As `stores.log.Logs` says; the copies of other machines go when they follow.

        Raises:
            DatabaseUnavailable
        """
        log = self.copies.name(path)
        with connected(self.engine) as connection:
            connection.execute(sa.delete(LINES).where(LINES.c.log == log))
            count_rewrite(connection, log)
        self.follow()

    def _follow(self, copied: Copied) -> int:
        came = 0
        while True:
            with connected(self.engine) as connection:
                rewrites = dict(connection.execute(sa.select(REWRITES.c.log, REWRITES.c.count)).all())
                copied = self._made_again(connection, copied, rewrites)
                after = (copied.written_by, copied.number) < PLACE
                rows = rows_of(connection, ordered_lines().where(SETTLED, after).limit(AT_ONCE))
            if not rows:
                return came
            copied = self.copies.write(copied, rows, rewrites)
            came += len(rows)
            if len(rows) < AT_ONCE:
                return came

    def _made_again(self, connection: sa.Connection, copied: Copied, rewrites: dict[str, int]) -> Copied:
        """Copies of logs that were rewritten, deleted here, or whose end went down with the power."""
        sizes = dict(copied.sizes)
        for log in copied.sizes:
            if rewrites.get(log, 0) == copied.rewrites.get(log, 0) and self.copies.is_whole(log, copied):
                continue
            until = (copied.written_by, copied.number)
            sizes[log] = self.copies.replace(log, (bytes(line) for *_, line in self._lines_of(connection, log, until)))
            if not sizes[log]:
                del sizes[log]
        if (sizes, rewrites) == (copied.sizes, copied.rewrites):
            return copied
        copied = msgspec.structs.replace(copied, sizes=sizes, rewrites=rewrites)
        self.copies.note(copied)
        return copied

    def _lines_of(self, connection: sa.Connection, log: str, until: tuple[int, int] | None = None) -> Iterator[LogLine]:
        """All lines of a log, oldest first, some at a time."""
        after = (0, 0)
        while True:
            query = ordered_lines().where(LINES.c.log == log, after < PLACE)
            if until is not None:
                query = query.where(until >= PLACE)
            rows = connection.execute(query.limit(AT_ONCE)).all()
            yield from rows
            if len(rows) < AT_ONCE:
                return
            after = rows[-1][0], rows[-1][1]


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
