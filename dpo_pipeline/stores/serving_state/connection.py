"""The database of what serving remembers, as a server has it open: for many threads, patient where nobody waits."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import sqlalchemy as sa

from dpo_pipeline.errors import DatabaseUnavailable, LogWriteError
from dpo_pipeline.stores.database import TROUBLE, first_line, insert
from dpo_pipeline.stores.serving_state.tables import Place, create_tables, sqlite_engine

T = TypeVar("T")
LOCKED_S = 0.2
"""How long another program may hold a SQLite file: everybody waits meanwhile, so the call is refused then."""
PATIENT_S = 8.0


class StateConnection:
    """A SQLite file has one connection, with one lock: its writers would only wait for each other.

    Args:
        place: a SQLite file, or the engine of what servers share.
    """

    def __init__(self, place: Place):
        self._place = place
        if isinstance(place, sa.Engine):
            self._lock: Any = nullcontext()
            self._engine = self._patient = place
        else:
            place.parent.mkdir(parents=True, exist_ok=True)
            self._lock = threading.Lock()
            self._engine = sqlite_engine(place, LOCKED_S, poolclass=sa.StaticPool)
            # In a thread of its own, where nobody waits: it has the time that another program may take.
            self._patient = sqlite_engine(place, PATIENT_S)
        create_tables(self._patient)
        self._insert = partial(insert, dialect=self._engine.dialect.name)

    def close(self) -> None:
        if isinstance(self._place, Path):
            self._patient.dispose()
            self._engine.dispose()

    def _several(self, table: sa.Table, ids: Sequence[str], kind: type[T]) -> dict[str, T]:
        with self._reading() as connection:
            rows = connection.execute(sa.select(table.c.id, table.c.content).where(table.c.id.in_(ids)))
            return {key: msgspec.json.decode(content, type=kind) for key, content in rows}

    def _scalar(self, query: sa.Select[Any], values: dict[str, str] | None = None) -> Any:
        with self._reading() as connection:
            return connection.scalar(query, values or {})

    @contextmanager
    def _reading(self) -> Iterator[sa.Connection]:
        try:
            with self._lock, self._engine.connect() as connection:
                yield connection
        except TROUBLE as error:
            raise DatabaseUnavailable(
                f"{self._where}: {first_line(error)}. What was asked for is not known now; try again."
            ) from error

    @contextmanager
    def _writing(self, what: str) -> Iterator[sa.Connection]:
        try:
            with self._lock, self._engine.begin() as connection:
                yield connection
        except TROUBLE as error:
            raise LogWriteError(
                f"{self._where}: {first_line(error)}. {what} was not kept; try again, and free some space where the "
                "disk is full."
            ) from error

    @property
    def _where(self) -> str:
        return self._engine.url.render_as_string(hide_password=True)
