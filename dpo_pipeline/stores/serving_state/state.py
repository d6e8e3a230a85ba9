"""What a server does with it, many times a second and from many threads."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import sqlalchemy as sa

from dpo_pipeline.errors import DatabaseUnavailable, LogWriteError
from dpo_pipeline.request_errors import NicknameTaken
from dpo_pipeline.stores.database import TROUBLE, first_line, insert
from dpo_pipeline.stores.serving_state.records import (
    REQUESTS_LOOKED_AT,
    Met,
    StoredComparison,
    StoredRequest,
    askable_prompts,
)
from dpo_pipeline.stores.serving_state.tables import (
    BALLOTS,
    COMPARISONS,
    CONTRIBUTORS,
    PEOPLE,
    REQUESTS,
    WITH_CONTENT,
    Place,
    create_tables,
    opened,
    sqlite_engine,
)
from dpo_pipeline.stores.write_behind import WriteBehind

T = TypeVar("T")
DAY_S = 86_400
CROWDED_S = 7 * DAY_S
"""So long somebody who came as one too many counts as such."""
KEPT_FRESH = 10_000
LOCKED_S = 0.2
"""How long another program may hold a SQLite file: everybody waits meanwhile, so the call is refused then."""
PATIENT_S = 8.0
NEWEST_BALLOTS = 200
NEWEST_REQUESTS = (
    sa.select(REQUESTS.c.content).order_by(REQUESTS.c.created.desc(), REQUESTS.c.id.desc()).limit(REQUESTS_LOOKED_AT)
)
COMPARISON = sa.select(COMPARISONS.c.content).where(COMPARISONS.c.id == sa.bindparam("id"))
REQUEST = sa.select(REQUESTS.c.content).where(REQUESTS.c.id == sa.bindparam("id"))


class ServingState:
    """Writes are small and need no sync of their own, since the log holds the votes.

    What is asked for raises DatabaseUnavailable where it cannot be told.

    A SQLite file has one connection, with one lock: its writers would only wait for each other.

    Args:
        place: a SQLite file, or the engine of what servers share.
    """

    def __init__(self, place: Place):
        self._place = place
        # Requests that are not in the database yet can be rated all the same.
        self._fresh: dict[str, StoredRequest] = {}
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
        self._behind = WriteBehind(self._insert_requests, "requests")

    def close(self) -> None:
        self._behind.close()
        if isinstance(self._place, Path):
            self._patient.dispose()
            self._engine.dispose()

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

    def meet(self, person: str, address: str, now: float, most: int, welcome: bool) -> Met | None:
        """When this person was first met, which is now for somebody new; null: one too many of this address today.

        Args:
            address: a pseudonym of it.
            most: new people of one address in a day.
            welcome: one too many is kept all the same, as crowded.

        Raises:
            LogWriteError: it was refused, or another program works on the database.
        """
        with self._writing("Who asked") as connection:
            query = sa.select(PEOPLE.c.first_met, PEOPLE.c.crowded, PEOPLE.c.address).where(PEOPLE.c.person == person)
            row = connection.execute(query).first()
            if row and row.address:
                return Met(row.first_met, bool(row.crowded) and now - row.first_met < CROWDED_S)
            first_met = row.first_met if row else now
            from_there = (PEOPLE.c.address == address) & (PEOPLE.c.first_met > now - DAY_S)
            today = connection.scalar(sa.select(sa.func.count()).select_from(PEOPLE).where(from_there)) or 0
            crowded = today >= most
            if crowded and not welcome:
                return None
            values = {"first_met": first_met, "address": address, "crowded": int(crowded)}
            met = self._insert(PEOPLE).values(person=person, **values)
            connection.execute(met.on_conflict_do_update(index_elements=[PEOPLE.c.person], set_=values))
            return Met(first_met, crowded)

    def note(self, person: str, now: float) -> None:
        """Somebody was met who compares, votes and rates nothing yet: they are known from now on, and count later.

        Raises:
            LogWriteError: as `meet`.
        """
        met = self._insert(PEOPLE).values(person=person, first_met=now, address="", crowded=0)
        with self._writing("Who asked") as connection:
            connection.execute(met.on_conflict_do_nothing())

    def join(self, person: str, nickname: str) -> None:
        """Show this person's votes under the nickname from now on.

        Raises:
            NicknameTaken: somebody else goes by it, in whatever case.
            LogWriteError: as `meet`.
        """
        values = {"nickname": nickname, "spelling": nickname.casefold()}
        joined = self._insert(CONTRIBUTORS).values(person=person, **values)
        try:
            with self._writing("The nickname") as connection:
                connection.execute(joined.on_conflict_do_update(index_elements=[CONTRIBUTORS.c.person], set_=values))
        except sa.exc.IntegrityError as error:
            raise NicknameTaken(f"Somebody else goes by {nickname!r}. Choose another nickname.") from error

    def leave(self, person: str) -> None:
        """Nothing of the nickname stays; raises LogWriteError as `join`."""
        with self._writing("The nickname") as connection:
            connection.execute(sa.delete(CONTRIBUTORS).where(CONTRIBUTORS.c.person == person))

    def nicknames(self) -> dict[str, str]:
        """By pseudonym, of those who joined."""
        with self._reading() as connection:
            joined = sa.select(CONTRIBUTORS.c.person, CONTRIBUTORS.c.nickname)
            return dict(connection.execute(joined).all())

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
