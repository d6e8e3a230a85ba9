"""Who was met, when first, and under which nickname their votes are shown."""

import sqlalchemy as sa

from dpo_pipeline.request_errors import NicknameTaken
from dpo_pipeline.stores.serving_state.connection import StateConnection
from dpo_pipeline.stores.serving_state.records import Met
from dpo_pipeline.stores.serving_state.tables import CONTRIBUTORS, PEOPLE

DAY_S = 86_400
CROWDED_S = 7 * DAY_S
"""So long somebody who came as one too many counts as such."""


class MetPeople(StateConnection):
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
