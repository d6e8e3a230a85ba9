"""The calls of this minute at all servers that share a database: each counts its own, and every second adds them to
the others'. No call waits for the database, and a limit holds within about a second.
"""

import logging
import threading

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from dpo_pipeline.errors import DatabaseUnavailable
from dpo_pipeline.serving.access import RateLimits
from dpo_pipeline.stores.database import connected, create_once

METADATA = sa.MetaData()
CALLS = sa.Table(
    "calls_of_a_minute",
    METADATA,
    sa.Column("minute", sa.BigInteger),
    sa.Column("kind", sa.Text),
    sa.Column("whose", sa.Text),
    sa.Column("count", sa.BigInteger, nullable=False),
    sa.PrimaryKeyConstraint("minute", "kind", "whose"),
)
"""`minute` is counted from 1970; `whose` is a pseudonym or an address."""
EVERY_S = 1.0
KEPT_MINUTES = 2
log = logging.getLogger(__name__)


class SharedRates:
    """Adds up what the servers counted, in a thread, until it is closed."""

    def __init__(self, engine: sa.Engine, rates: RateLimits):
        self._engine, self._rates = engine, rates
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._share, name="shared rates", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        self._thread.join(timeout=10)

    def share(self) -> None:
        """One turn.

        Raises:
            DatabaseUnavailable: what is not told yet is told with the next turn.
        """
        minute, counted = self._rates.counted()
        told = [
            {"minute": minute, "kind": kind, "whose": whose, "count": count} for (kind, whose), count in counted.items()
        ]
        with connected(self._engine) as connection:
            if told:
                added = postgresql.insert(CALLS)
                connection.execute(
                    added.on_conflict_do_update(
                        index_elements=list(CALLS.primary_key),
                        set_={"count": CALLS.c.count + added.excluded["count"]},
                    ),
                    sorted(told, key=lambda row: (row["kind"], row["whose"])),  # in one order: no two wait in a circle
                )
            connection.execute(sa.delete(CALLS).where(CALLS.c.minute < minute - KEPT_MINUTES))
            of_minute = sa.select(CALLS.c.kind, CALLS.c.whose, CALLS.c.count).where(CALLS.c.minute == minute)
            everywhere = {(kind, whose): count for kind, whose, count in connection.execute(of_minute)}
        self._rates.told(minute, counted, everywhere)

    def _share(self) -> None:
        prepared, silent = False, False
        while not self._stop.wait(EVERY_S):
            try:
                if not prepared:
                    create_once(self._engine, METADATA)
                    prepared = True
                self.share()
                silent = False
            except DatabaseUnavailable as error:
                if not silent:  # said once for each outage
                    log.warning("limits hold for this server alone until the database answers: %s", error)
                silent = True
            except Exception:
                log.exception("calls were not added up; tried again in %g s", EVERY_S)
