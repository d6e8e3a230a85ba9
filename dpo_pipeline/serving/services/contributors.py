"""Who votes how much this week, by the names that people gave themselves."""

from datetime import datetime
from zoneinfo import ZoneInfo

from dpo_pipeline.core.calendar import day_of
from dpo_pipeline.core.contributions import TeamWeek, checked_nickname, week_of
from dpo_pipeline.serving.access import RateLimits
from dpo_pipeline.serving.services.tally import Tally
from dpo_pipeline.serving.services.visitors import Visitor, Visitors
from dpo_pipeline.settings import Cadence
from dpo_pipeline.stores.serving_state import ServingState


class Contributors:
    def __init__(
        self, state: ServingState, tally: Tally, visitors: Visitors, rates: RateLimits, cadence: Cadence, zone: ZoneInfo
    ):
        self._state, self._tally, self._visitors, self._rates = state, tally, visitors, rates
        self._cadence, self._zone = cadence, zone

    def week(self, now: datetime) -> TeamWeek:
        counts = self._tally.refresh().counts
        people, simulated = (counts[whose].by_person.copy() for whose in ("people", "simulated"))
        return week_of(people, self._state.nicknames(), day_of(now, self._zone), self._cadence, simulated)

    def join(self, visitor: Visitor, nickname: str) -> str:
        """Give a person a name, or another one; returns it as it is shown.

        Raises:
            InvalidRequest, NicknameTaken, TooManyRequests: nothing was changed.
        """
        nickname = checked_nickname(nickname)
        self._rates.check("votes", visitor.person, visitor.address)
        self._state.join(self._visitors.settled(visitor).person, nickname)
        return nickname

    def leave(self, person: str) -> None:
        """Take the name away; the votes stay."""
        self._state.leave(person)
