"""Who of several programs does what must be done once, and whether a server works on the database."""

import logging

import sqlalchemy as sa

from dpo_pipeline.errors import DatabaseUnavailable, ServiceError
from dpo_pipeline.stores.database import TROUBLE, engine_of, first_line, lock_key

log = logging.getLogger(__name__)


class Leadership:
    """Who of several programs does what must be done once: a lock of the session, which the database itself takes back
    from a program that has ended or cannot be reached any more.

    Args:
        shared: any number may hold it, and then nobody else alone.
    """

    def __init__(self, engine: sa.Engine, what: str, shared: bool = False):
        self._engine, self._key = engine, lock_key(what)
        self._ask = sa.text(f"select pg_try_advisory_lock{'_shared' if shared else ''}(:key)")
        self._held: sa.Connection | None = None

    def held(self) -> bool:
        """Whether it is this program, which asks for it where nobody is; call it again before each turn.

        Raises:
            DatabaseUnavailable: nobody can tell who leads.
        """
        try:
            if self._held is not None:
                self._held.execute(sa.text("select 1"))
                self._held.commit()
                return True
            connection = self._engine.connect()
            taken = connection.scalar(self._ask, {"key": self._key})
            connection.commit()
        except TROUBLE as error:
            self._end_session()
            raise DatabaseUnavailable(f"The database does not say who leads: {first_line(error)}.") from error
        if taken:
            self._held = connection
        else:
            connection.close()
        return bool(taken)

    def close(self) -> None:
        """Hand it on, so that whoever asks next has it."""
        try:
            if self._held is not None:  # Postgres ends a closed session in its own time
                self._held.execute(sa.text("select pg_advisory_unlock_all()"))
        except TROUBLE as error:
            log.warning("A lock could not be handed on: %s. It ends with its session.", first_line(error))
        finally:
            self._end_session()

    def _end_session(self) -> None:
        held, self._held = self._held, None
        if held is not None:
            held.invalidate()  # given back to the pool, it could go on holding the lock
            held.close()


SERVING = "serving"
"""What every server that works on the database holds, all together, as long as it runs."""


def check_nobody_serves(database_url: str | None) -> None:
    """
    Raises:
        ServiceError: a server works on the database that is set: what it remembers would be written again.
    """
    if database_url is None:
        return
    alone = Leadership(engine_of(database_url), SERVING)
    try:
        if not alone.held():
            raise ServiceError(
                "A server still works on this database, on this machine or another. Stop all of them first, and start "
                "them again afterwards."
            )
    finally:
        alone.close()
