"""The calls of this minute at all servers that share a database: each counts its own, and every second adds them to
the others'. No call waits for the database, and a limit holds within about a second.
"""

import sqlalchemy as sa

from dpo_pipeline.serving.access import RateLimits
from dpo_pipeline.serving.database_follower import DatabaseFollower
from dpo_pipeline.stores.database import connected, create_once, insert

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


class SharedRates(DatabaseFollower):
    """Adds up what the servers counted."""

    def __init__(self, engine: sa.Engine, rates: RateLimits):
        super().__init__("shared rates", EVERY_S, self.share, "limits hold for this server alone")
        self._engine, self._rates, self._prepared = engine, rates, False

    def share(self) -> None:
        """One turn.

        Raises:
            DatabaseUnavailable: what is not told yet is told with the next turn.
        """
        if not self._prepared:
            create_once(self._engine, METADATA)
            self._prepared = True
        minute, counted = self._rates.counted()
        told = [
            {"minute": minute, "kind": kind, "whose": whose, "count": count} for (kind, whose), count in counted.items()
        ]
        with connected(self._engine) as connection:
            if told:
                added = insert(CALLS)
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
