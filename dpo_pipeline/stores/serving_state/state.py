"""What a server does with it, many times a second and from many threads."""

from collections.abc import Callable, Sequence

import msgspec
import sqlalchemy as sa

from dpo_pipeline.stores.serving_state.met import MetPeople
from dpo_pipeline.stores.serving_state.records import (
    REQUESTS_LOOKED_AT,
    StoredComparison,
    StoredRequest,
    askable_prompts,
)
from dpo_pipeline.stores.serving_state.tables import BALLOTS, COMPARISONS, REQUESTS, WITH_CONTENT, Place, opened
from dpo_pipeline.stores.write_behind import WriteBehind

KEPT_FRESH = 10_000
NEWEST_BALLOTS = 200
NEWEST_REQUESTS = (
    sa.select(REQUESTS.c.content).order_by(REQUESTS.c.created.desc(), REQUESTS.c.id.desc()).limit(REQUESTS_LOOKED_AT)
)
COMPARISON = sa.select(COMPARISONS.c.content).where(COMPARISONS.c.id == sa.bindparam("id"))
REQUEST = sa.select(REQUESTS.c.content).where(REQUESTS.c.id == sa.bindparam("id"))


class ServingState(MetPeople):
    """Writes are small and need no sync of their own, since the log holds the votes.

    What is asked for raises DatabaseUnavailable where it cannot be told.

    Args:
        place: a SQLite file, or the engine of what servers share.
    """

    def __init__(self, place: Place):
        super().__init__(place)
        # Requests that are not in the database yet can be rated all the same.
        self._fresh: dict[str, StoredRequest] = {}
        self._behind = WriteBehind(self._insert_requests, "requests")

    def close(self) -> None:
        self._behind.close()
        super().close()

    def add_comparison(self, comparison: StoredComparison, created: float, log_offset: int) -> None:
        """`log_offset` is the size of the preference log now: an event for this comparison stands behind it.

        Raises:
            LogWriteError: it was refused.
        """
        row = {"id": comparison.comparison_id, "created": created, "log_offset": log_offset}
        with self._writing("The comparison") as connection:
            connection.execute(sa.insert(COMPARISONS), row | {"content": msgspec.json.encode(comparison)})

    def add_ballot(self, ballot: StoredComparison, created: float) -> None:
        """Two answers to what somebody asked, to be compared by others; of these the newest are kept.

        Raises:
            LogWriteError: it was refused, or another program works on the database.
        """
        newest = sa.select(BALLOTS.c.id).order_by(BALLOTS.c.created.desc()).limit(NEWEST_BALLOTS)
        row = {"id": ballot.comparison_id, "created": created, "content": msgspec.json.encode(ballot)}
        with self._writing("The copy") as connection:
            connection.execute(sa.insert(BALLOTS), row)
            connection.execute(sa.delete(BALLOTS).where(BALLOTS.c.id.not_in(newest)))

    def take_ballot(self, fits: Callable[[StoredComparison], bool]) -> StoredComparison | None:
        """The newest that fits, which nobody gets again; raises LogWriteError as `add_ballot`."""
        newest_first = sa.select(BALLOTS.c.id, BALLOTS.c.content).order_by(BALLOTS.c.created.desc())
        with self._writing("What is shown") as connection:
            for key, content in connection.execute(newest_first).all():
                ballot = msgspec.json.decode(content, type=StoredComparison)
                if fits(ballot) and connection.execute(sa.delete(BALLOTS).where(BALLOTS.c.id == key)).rowcount:
                    return ballot  # no row: another server was first
        return None

    def comparisons(self, ids: Sequence[str]) -> dict[str, StoredComparison]:
        """Those of them that are kept, by id."""
        return self._several(COMPARISONS, ids, StoredComparison)

    def comparison(self, comparison_id: str) -> StoredComparison | None:
        content = self._scalar(COMPARISON, {"id": comparison_id})
        return msgspec.json.decode(content, type=StoredComparison) if content else None

    def oldest_open_offset(self, since: float) -> int | None:
        """Where in the log the first event of a comparison made after `since` can stand; null for none."""
        found = self._scalar(sa.select(sa.func.min(COMPARISONS.c.log_offset)).where(COMPARISONS.c.created >= since))
        return None if found is None else int(found)

    def add_request(self, request: StoredRequest, created: float) -> None:
        self._fresh[request.request_id] = request
        self._behind.put((request, created))

    def request(self, request_id: str) -> StoredRequest | None:
        if fresh := self._fresh.get(request_id):
            return fresh
        content = self._scalar(REQUEST, {"id": request_id})
        return msgspec.json.decode(content, type=StoredRequest) if content else None

    def requests(self, ids: Sequence[str]) -> dict[str, StoredRequest]:
        """Those of them that are kept, by id."""
        fresh = {each: request for each in ids if (request := self._fresh.get(each))}
        return self._several(REQUESTS, [each for each in ids if each not in fresh], StoredRequest) | fresh

    def newest_prompts(self) -> dict[str, str]:
        """As the function of that name, of this database."""
        with self._reading() as connection:
            return _prompts(connection)

    def forget_before(self, moment: float, requests: float) -> None:
        """Drop comparisons that can no longer be voted on, and requests of before their own moment.

        Raises:
            LogWriteError: as `meet`.
        """
        with self._writing("What has expired") as connection:
            for table in WITH_CONTENT:
                oldest = requests if table is REQUESTS else moment
                connection.execute(sa.delete(table).where(table.c.created < oldest))

    def _insert_requests(self, requests: list[tuple[StoredRequest, float]]) -> None:
        rows = [
            {"id": request.request_id, "created": created, "content": msgspec.json.encode(request)}
            for request, created in requests
        ]
        try:
            with self._patient.begin() as connection:
                connection.execute(sa.insert(REQUESTS), rows)
        except sa.exc.DBAPIError:
            # The disk is full, say: the newest can be rated as long as this program lives.
            for request_id in list(self._fresh)[:-KEPT_FRESH]:
                del self._fresh[request_id]
            raise
        for request, _ in requests:
            self._fresh.pop(request.request_id, None)


def newest_prompts(place: Place) -> dict[str, str]:
    """Distinct single questions of people's newest requests, newest first, and who asked each; none before the first.

    Of 3 to 500 characters, at most 500, from the newest 2000 requests; case and white space make no difference.
    """
    with opened(place) as engine:
        if engine is None:
            return {}
        with engine.connect() as connection:
            return _prompts(connection)


def _prompts(connection: sa.Connection) -> dict[str, str]:
    return askable_prompts(
        msgspec.json.decode(content, type=StoredRequest) for (content,) in connection.execute(NEWEST_REQUESTS)
    )
