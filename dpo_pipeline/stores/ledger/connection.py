"""The database that a ledger is: opened, and written by one at a time."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.engine import make_url

from dpo_pipeline.errors import LedgerCorrupt
from dpo_pipeline.stores.database import connected, engine_of, first_line, take_turn
from dpo_pipeline.stores.ledger.records import utc_now
from dpo_pipeline.stores.ledger.tables import prepare


class LedgerConnection:
    """The database behind one URL. Cheap to make: a SQLite file is opened, and closed again; the connections to a
    Postgres are the process's, and stay.

    Args:
        clock: what stands as the moment of every change.

    Raises:
        LedgerCorrupt, LedgerTooNew: the file is no ledger that can be read; it is left as it is.
        DatabaseUnavailable: it is in a database that does not answer.
    """

    def __init__(self, url: str, clock: Callable[[], str] = utc_now):
        self.url, parsed = url, make_url(url)
        self._is_file, self.clock = parsed.get_backend_name() == "sqlite", clock
        if not self._is_file:
            self._engine = engine_of(url)
            _prepare_once(self._engine)
            return
        if parsed.database:
            Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
        self._engine = sa.create_engine(parsed, connect_args={"timeout": 30})
        try:
            prepare(self._engine)
        except BaseException as error:
            self._engine.dispose()
            # An operational error: it is held by another program, say.
            if not isinstance(error, sa.exc.DatabaseError) or isinstance(error, sa.exc.OperationalError):
                raise
            raise LedgerCorrupt(
                f"{parsed.database} cannot be read as a ledger: {first_line(error)}. Nothing was changed. Bring it "
                "back from a backup (`dpo restore`)."
            ) from error

    @property
    def engine(self) -> sa.Engine:
        """For whoever copies the whole ledger."""
        return self._engine

    def close(self) -> None:
        if self._is_file:
            self._engine.dispose()

    @contextmanager
    def _writing(self) -> Iterator[sa.Connection]:
        """A transaction that no other writer of a ledger comes into: steps are checked against what they change."""
        begun = self._engine.begin() if self._is_file else connected(self._engine)
        with begun as connection:
            take_turn(connection, "ledger")
            yield connection

    def _reading(self) -> AbstractContextManager[sa.Connection]:
        """Raises DatabaseUnavailable, as `_writing` does, where machines share it."""
        return self._engine.connect() if self._is_file else connected(self._engine)


@cache
def _prepare_once(engine: sa.Engine) -> None:
    prepare(engine)
