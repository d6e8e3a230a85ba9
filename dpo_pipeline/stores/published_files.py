"""Small files that the machine which trains writes for people to look at, on every server that shares its database.

Counts of curation, judged pairs, progress and reports are written by rename, and read by pages. Where servers have
folders of their own, each has a copy of the newest.
"""

import hashlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from dpo_pipeline.settings import Settings
from dpo_pipeline.stores.artifacts import replacing, write_text
from dpo_pipeline.stores.database import connected, create_once, engine_of

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
KINDS = ("warehouse/*.json", "warehouse/*.jsonl", "progress/*.json", "reports/**/*")
LARGEST_BYTES = 20_000_000
NOTED = "published_files.json"


class PublishedFiles:
    """Those of one data folder."""

    def __init__(self, engine: sa.Engine, data_dir: Path):
        self._engine, self._dir = engine, data_dir
        self._seen: int | None = None

    def share(self) -> int:
        """Let the servers have what has changed here since the last time; returns how many files.

        Raises:
            DatabaseUnavailable: the next time does it.
        """
        create_once(self._engine, METADATA)
        noted = self._noted()
        changed = {name: stamp for name, stamp in self._stamps() if noted.get(name) != stamp}
        for name in changed:
            with suppress(FileNotFoundError):
                content = (self._dir / name).read_bytes()
                digest = hashlib.sha256(content).hexdigest()
                values = {"number": NUMBERS.next_value(), "sha256": digest, "content": content}
                newest = postgresql.insert(FILES).values(path=name, **values)
                newest = newest.on_conflict_do_update(
                    index_elements=[FILES.c.path], set_=values, where=FILES.c.sha256 != digest
                )
                with connected(self._engine) as connection:
                    connection.execute(newest)
        if changed:
            write_text(self._dir / NOTED, msgspec.json.encode(noted | changed).decode())
        return len(changed)

    def follow(self) -> int:
        """Bring the newest of each here; returns how many came. Raises DatabaseUnavailable."""
        if self._seen is None:
            create_once(self._engine, METADATA)
            self._seen = 0
        newer = sa.select(FILES.c.path, FILES.c.number, FILES.c.content).where(FILES.c.number > self._seen)
        with connected(self._engine) as connection:
            rows = connection.execute(newer.order_by(FILES.c.number)).all()
        for name, number, content in rows:
            with replacing(self._dir / name) as file:
                file.write(bytes(content))
            self._seen = number
        return len(rows)

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


def share_published(settings: Settings) -> None:
    """As `PublishedFiles.share`, where a database is set."""
    if settings.database_url:
        PublishedFiles(engine_of(settings.database_url), settings.data_dir).share()
