"""The database that several machines share, where one is set: its connections, and locks that end with their holder.

One engine a process and address: opening a connection takes ten times as long as a query. SQLAlchemy's Core without
its ORM, as the ledger has it.
"""

import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING

import sqlalchemy as sa
from sqlalchemy.engine import make_url

from dpo_pipeline.errors import DatabaseUnavailable, SettingsError
from dpo_pipeline.in_words import kind_of_fault

if TYPE_CHECKING:
    from sqlalchemy.dialects import postgresql, sqlite


CONNECT_S = 5
STATEMENT_S = 30
TROUBLE = (sa.exc.OperationalError, sa.exc.InterfaceError, sa.exc.InternalError, sa.exc.TimeoutError)
"""What a driver has for a database that is away, ends a session, or became a read-only one."""
GONE_MS = 5_000
"""So long an answer may be missing before a connection counts as lost: the system itself would wait a quarter hour."""
KEEPALIVES = {"keepalives_idle": 2, "keepalives_interval": 1, "keepalives_count": 2, "tcp_user_timeout": GONE_MS}
SILENT = "-c tcp_keepalives_idle=2 -c tcp_keepalives_interval=1 -c tcp_keepalives_count=2"
"""The server ends a session, and with it a lock, four seconds after its machine has gone."""
OPTIONS = f"-c statement_timeout={STATEMENT_S}s {SILENT}"
POOL = 16
"""Connections that a process keeps at most; beyond them, callers wait."""


@cache
def engine_of(url: str) -> sa.Engine:
    """The engine of this process for a Postgres; it connects when it is first used, and again after an outage.

    Raises:
        SettingsError: what speaks to Postgres is not installed.
    """
    try:
        return sa.create_engine(
            make_url(url),
            pool_size=POOL,
            max_overflow=0,
            pool_timeout=CONNECT_S,
            pool_pre_ping=True,
            connect_args=KEEPALIVES | {"connect_timeout": CONNECT_S, "options": OPTIONS},
        )
    except ModuleNotFoundError as error:
        raise SettingsError(
            f"DPO_DATABASE_URL names a Postgres, and {error.name} is not installed here. Run `make scaled`, or "
            "`pip install 'dpo-pipeline[scaled]'`."
        ) from error


def with_schema(url: str, schema: str, driver: str) -> str:
    """The same database for another program: its tables in a schema of their own, by the driver that it needs."""
    own = make_url(url).set(drivername=f"postgresql+{driver}")
    return own.update_query_dict({"options": f"-csearch_path={schema}"}).render_as_string(hide_password=False)


def create_schemas(url: str, *schemas: str) -> None:
    """Those that are missing.

    Raises:
        DatabaseUnavailable
    """
    with connected(engine_of(url)) as connection:
        take_turn(connection, "schema")
        for schema in schemas:
            connection.execute(sa.schema.CreateSchema(schema, if_not_exists=True))


@contextmanager
def connected(engine: sa.Engine) -> Iterator[sa.Connection]:
    """A transaction on it: all of it, or nothing.

    Raises:
        DatabaseUnavailable: it does not answer, or went away meanwhile.
    """
    try:
        with engine.begin() as connection:
            yield connection
    except TROUBLE as error:
        raise DatabaseUnavailable(
            f"The database at {engine.url.render_as_string(hide_password=True)} did not say that it is done: "
            f"{first_line(error)}. Start it, or look at DPO_DATABASE_URL; then try again."
        ) from error


def take_turn(connection: sa.Connection, what: str) -> None:
    """Until this transaction ends no other one on this database is at the same. A SQLite file has one writer anyway."""
    if connection.dialect.name == "postgresql":
        connection.execute(sa.text("select pg_advisory_xact_lock(:key)"), {"key": lock_key(what)})


@contextmanager
def alone(engine: sa.Engine, what: str) -> Iterator[None]:
    """The same for a block that has transactions of its own."""
    with connected(engine) as connection:
        take_turn(connection, what)
        yield


@contextmanager
def only_one(engine: sa.Engine, what: str, wait_s: float) -> Iterator[bool]:
    """Whether this is the only program that is at it, for which it waits so long at most.

    Raises:
        DatabaseUnavailable
    """
    until = time.monotonic() + wait_s
    asked = sa.text("select pg_try_advisory_xact_lock(:key)")
    with connected(engine) as connection:
        while not (taken := bool(connection.scalar(asked, {"key": lock_key(what)}))) and time.monotonic() < until:
            time.sleep(0.1)
        yield taken


def create_once(engine: sa.Engine, metadata: sa.MetaData) -> None:
    """Create the tables that are missing, one program at a time: of two at once, Postgres would refuse one."""
    with connected(engine) as connection:
        take_turn(connection, "schema")
        metadata.create_all(connection)


METADATA = sa.MetaData()
SECRETS = sa.Table(
    "secrets",
    METADATA,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("value", sa.LargeBinary, nullable=False),
)
"""What only these programs may read: grant nobody else this database."""


def insert(table: sa.Table, dialect: str = "postgresql") -> "postgresql.Insert | sqlite.Insert":
    """One that knows ON CONFLICT. A dialect is imported where it is used: it brings all of its drivers along."""
    if dialect == "postgresql":
        from sqlalchemy.dialects import postgresql

        return postgresql.insert(table)
    from sqlalchemy.dialects import sqlite

    return sqlite.insert(table)


@cache
def shared_secret(engine: sa.Engine, name: str, make: Callable[[], str]) -> bytes:
    """The secret of this name, which is made where there is none yet.

    Raises:
        DatabaseUnavailable
    """
    if (there := known_secret(engine, name)) is not None:
        return there
    with connected(engine) as connection:
        made = insert(SECRETS).values(name=name, value=make().encode())
        connection.execute(made.on_conflict_do_nothing())
        return bytes(connection.execute(sa.select(SECRETS.c.value).where(SECRETS.c.name == name)).scalar_one())


def known_secret(engine: sa.Engine, name: str) -> bytes | None:
    """Null where there is none; raises as `shared_secret`."""
    create_once(engine, METADATA)
    with connected(engine) as connection:
        found = connection.scalar(sa.select(SECRETS.c.value).where(SECRETS.c.name == name))
        return None if found is None else bytes(found)


def lock_key(what: str) -> int:
    """A number of 63 bits that no other program's lock has by chance."""
    return int.from_bytes(hashlib.sha256(f"dpo_pipeline {what}".encode()).digest()[:8], "big") >> 1


def first_line(error: Exception) -> str:
    """What a driver says, without SQLAlchemy's page about it."""
    text = str(getattr(error, "orig", None) or error).strip()
    return text.splitlines()[0] if text else kind_of_fault(error)
