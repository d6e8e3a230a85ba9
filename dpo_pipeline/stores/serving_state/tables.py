"""The tables, and the two places where they may be: a SQLite file, or a Postgres that several servers share."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from dpo_pipeline.settings import Settings
from dpo_pipeline.stores.database import create_once, engine_of

METADATA = sa.MetaData()
COMPARISONS = sa.Table(
    "comparisons",
    METADATA,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("created", sa.Double),
    sa.Column("log_offset", sa.BigInteger),
    sa.Column("content", sa.LargeBinary),
    sa.Index("comparisons_created", "created"),
)
REQUESTS = sa.Table(
    "requests",
    METADATA,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("created", sa.Double),
    sa.Column("content", sa.LargeBinary),
    sa.Index("requests_created", "created"),
)
BALLOTS = sa.Table(
    "ballots",
    METADATA,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("created", sa.Double),
    sa.Column("content", sa.LargeBinary),
)
CONTRIBUTORS = sa.Table(
    "contributors",
    METADATA,
    sa.Column("person", sa.Text, primary_key=True),
    sa.Column("nickname", sa.Text),
    sa.Column("spelling", sa.Text, unique=True),
)
PEOPLE = sa.Table(
    "people",
    METADATA,
    sa.Column("person", sa.Text, primary_key=True),
    sa.Column("first_met", sa.Double),
    sa.Column("address", sa.Text),
    sa.Column("crowded", sa.Integer),
    sa.Index("people_met", "address", "first_met"),
)
WITH_CONTENT = (COMPARISONS, REQUESTS, BALLOTS)
"""Tables whose rows say in their content whose they are."""
OF_PEOPLE = (CONTRIBUTORS, PEOPLE)
"""Tables with a row a person."""
WAITS_S = 30.0
Place = Path | sa.Engine
"""A SQLite file, or the engine of what servers share."""


def place_of(settings: Settings) -> Place:
    """Where it is set to be."""
    return engine_of(settings.database_url) if settings.database_url else settings.serving_state


def sqlite_engine(path: Path, timeout_s: float, **options: Any) -> sa.Engine:
    """
    Args:
        timeout_s: how long another program may hold the file before a statement is refused.
    """
    connect_args = {"check_same_thread": False, "timeout": timeout_s}
    engine = sa.create_engine(f"sqlite:///{path}", connect_args=connect_args, **options)

    @sa.event.listens_for(engine, "connect")
    def settle(connection: Any, record: Any) -> None:
        connection.execute("pragma journal_mode=wal")
        connection.execute("pragma synchronous=normal")  # the log holds the votes

    return engine


def create_tables(engine: sa.Engine) -> None:
    """Those that are missing: an earlier program may have had fewer."""
    if engine.dialect.name != "sqlite":
        create_once(engine, METADATA)
        return
    for _ in METADATA.tables:
        try:
            METADATA.create_all(engine)
        except sa.exc.OperationalError as error:  # another program was at the same
            if "already exists" not in str(error):
                raise
        else:
            return


@contextmanager
def opened_for_copy(place: Place) -> Iterator[sa.Engine]:
    """With all its tables, be it a file that is not there yet."""
    if isinstance(place, Path):
        place.parent.mkdir(parents=True, exist_ok=True)
        place.touch(mode=0o600)
    with opened(place) as engine:
        assert engine is not None
        yield engine


@contextmanager
def opened(place: Place) -> Iterator[sa.Engine | None]:
    """For a program that looks at it beside the server, or without one; null where nothing is kept yet."""
    if isinstance(place, sa.Engine):
        create_tables(place)
        yield place
    elif not place.exists():
        yield None
    else:
        engine = sqlite_engine(place, WAITS_S)
        try:
            create_tables(engine)
            yield engine
        finally:
            engine.dispose()
