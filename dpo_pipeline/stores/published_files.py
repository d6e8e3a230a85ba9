"""Small files that the machine which trains writes for people to look at, on every server that shares its database.

Counts of curation, validated pairs, progress and reports are written by rename, and read by pages. Where servers have
folders of their own, each has a copy of the newest.
"""

import hashlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import msgspec
import sqlalchemy as sa

from dpo_pipeline.settings import Settings
from dpo_pipeline.stores.artifacts import replacing, write_text
from dpo_pipeline.stores.database import connected, create_once, engine_of, insert, take_turn

METADATA = sa.MetaData()
NUMBERS = sa.Sequence("published_numbers", metadata=METADATA)
FILES = sa.Table(
    "published_files",
    METADATA,
    sa.Column("path", sa.Text, primary_key=True),
    sa.Column("number", sa.BigInteger, nullable=False, index=True),
    sa.Column("sha256", sa.Text, nullable=False),
    sa.Column("content", sa.LargeBinary, nullable=False),
)
"""`path` is that in a data folder; `number` grows with every change of any of them."""
KINDS = ("warehouse/*.json", "warehouse/*.jsonl", "progress/*.json", "progress/*.run", "reports/**/*")
LARGEST_BYTES = 20_000_000
NOTED = "published_files.json"
"""By name what was shared from here, with its time and size; in the folder of a server, what came."""


class PublishedFiles:
    """Those of one data folder."""

    def __init__(self, engine: sa.Engine, data_dir: Path):
        self._engine, self._dir = engine, data_dir
        self._seen: tuple[int, int] | None = None

    def share(self) -> int:
        """Let the servers have what has changed here since the last time; returns how many files.

        Raises:
            DatabaseUnavailable: the next time does it.
        """
        noted = self._noted()
        changed = {name: stamp for name, stamp in self._stamps() if noted.get(name) != stamp}
        if not changed:
            return 0
        create_once(self._engine, METADATA)
        for name in changed:
            with suppress(FileNotFoundError):
                content = (self._dir / name).read_bytes()
                digest = hashlib.sha256(content).hexdigest()
                values = {"number": NUMBERS.next_value(), "sha256": digest, "content": content}
                newest = insert(FILES).values(path=name, **values)
                newest = newest.on_conflict_do_update(
                    index_elements=[FILES.c.path], set_=values, where=FILES.c.sha256 != digest
                )
                with connected(self._engine) as connection:
                    take_turn(connection, "published files")  # numbers are seen in the order in which they are drawn
                    connection.execute(newest)
        write_text(self._dir / NOTED, msgspec.json.encode(noted | changed).decode())
        return len(changed)

    def follow(self) -> int:
        """Bring the newest of each here, and remove those that are gone; returns how many came.

        Raises:
            DatabaseUnavailable
        """
        if self._seen is None:
            create_once(self._engine, METADATA)
            self._seen = (0, -1)
        newest = sa.select(sa.func.coalesce(sa.func.max(FILES.c.number), 0), sa.func.count())
        with connected(self._engine) as connection:
            now = tuple(connection.execute(newest).one())
            if now == self._seen:
                return 0
            newer = sa.select(FILES.c.path, FILES.c.content).where(FILES.c.number > self._seen[0])
            rows = connection.execute(newer.order_by(FILES.c.number)).all()
            there = set(connection.scalars(sa.select(FILES.c.path)))
        for name, content in rows:
            with replacing(self._dir / name) as file:
                file.write(bytes(content))
        for name in self._noted().keys() - there:
            (self._dir / name).unlink(missing_ok=True)
        write_text(self._dir / NOTED, msgspec.json.encode({name: [] for name in sorted(there)}).decode())
        self._seen = (now[0], now[1])
        return len(rows)

    def forget(self) -> None:
        """All of them go everywhere; what is here comes again with the next `share`. Raises DatabaseUnavailable."""
        create_once(self._engine, METADATA)
        with connected(self._engine) as connection:
            connection.execute(sa.delete(FILES))
        (self._dir / NOTED).unlink(missing_ok=True)

    def _stamps(self) -> Iterator[tuple[str, list[int]]]:
        for kind in KINDS:
            for path in self._dir.glob(kind):
                with suppress(FileNotFoundError):
                    found = path.stat()
                    if path.is_file() and not path.name.startswith(".") and found.st_size <= LARGEST_BYTES:
                        yield path.relative_to(self._dir).as_posix(), [found.st_mtime_ns, found.st_size]

    def _noted(self) -> dict[str, list[int]]:
        with suppress(FileNotFoundError, msgspec.MsgspecError):
            return msgspec.json.decode((self._dir / NOTED).read_bytes(), type=dict[str, list[int]])
        return {}


def forget_published(settings: Settings) -> None:
    """As `PublishedFiles.forget`, where a database is set."""
    if settings.database_url:
        PublishedFiles(engine_of(settings.database_url), settings.data_dir).forget()


def share_published(settings: Settings) -> None:
    """As `PublishedFiles.share`, where a database is set."""
    if settings.database_url:
        PublishedFiles(engine_of(settings.database_url), settings.data_dir).share()
