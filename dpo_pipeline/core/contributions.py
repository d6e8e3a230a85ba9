"""Who has voted how much this week, for how many days in a row, and how far the team is.

A week is Monday to Sunday in the team's time zone. Who is named and who is one of "others" is a
choice of the person, kept in `stores.serving_state`.
"""

import unicodedata
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from types import MappingProxyType

from dpo_pipeline.core.calendar import week_start
from dpo_pipeline.core.vote_count import VoteCount
from dpo_pipeline.request_errors import InvalidRequest
from dpo_pipeline.settings import Cadence

NICKNAME_LENGTH = (2, 24)
_IMPORTED = "import-"  # an import brings pairs, not a person's votes


@dataclass(frozen=True)
class Contribution:
    """One person's week. `share` is of all votes of the week; `streak` in days, today still open."""

    person: str
    nickname: str
    votes: int
    share: float
    streak: int


@dataclass(frozen=True)
class TeamWeek:
    """The team's week: those who gave a nickname, most votes first, and everybody else as two numbers.

    `votes`, and what is compared with the targets, are all votes. `simulated`: by how many simulated people some are.
    """

    first_day: date
    count: VoteCount
    named: tuple[Contribution, ...]
    others: int
    others_votes: int
    simulated: int
    minimum: int
    target: int
    optimal: int

    @property
    def votes(self) -> int:
        return self.count.total

    @property
    def progress(self) -> float:
        """Share of the weekly target, above 1 when it is passed."""
        return self.votes / self.target

    @property
    def missing(self) -> int:
        return max(self.target - self.votes, 0)

    @property
    def level(self) -> str:
        """What the number of votes means."""
        if self.votes >= self.optimal:
            return f"More than {self.optimal}: further votes this week add little. Thank you!"
        if self.votes >= self.target:
            return f"The target is reached; up to {self.optimal} votes this week still help."
        if self.votes >= self.minimum:
            return f"Above the minimum of {self.minimum}; {self.missing} more votes reach the target."
        return f"{self.minimum - self.votes} more votes reach the minimum of {self.minimum}."


def week_of(
    by_person: Mapping[tuple[str, date], int],
    nicknames: Mapping[str, str],
    today: date,
    cadence: Cadence,
    simulated: Mapping[tuple[str, date], int] = MappingProxyType({}),
) -> TeamWeek:
    """The week that `today` lies in.

    Args:
        by_person, simulated: votes of people, and of simulated people, by (pseudonym, day), of any time.
        nicknames: of the people who want to be named, by pseudonym.
    """
    first = week_start(today)
    days: defaultdict[str, set[date]] = defaultdict(set)
    votes: defaultdict[str, int] = defaultdict(int)
    for (person, day), given in by_person.items():
        if given > 0 and not person.startswith(_IMPORTED):
            days[person].add(day)
            votes[person] += given if first <= day <= today else 0
    of_week = {key: given for key, given in simulated.items() if given > 0 and first <= key[1] <= today}
    count = VoteCount(sum(votes.values()), sum(of_week.values()))
    named = [
        Contribution(person, name, votes[person], votes[person] / (count.total or 1), streak(days[person], today))
        for person, name in nicknames.items()
    ]
    others = [given for person, given in votes.items() if person not in nicknames and given]
    return TeamWeek(
        first_day=first,
        count=count,
        named=tuple(sorted(named, key=lambda each: (-each.votes, -each.streak, each.nickname.casefold()))),
        others=len(others),
        others_votes=sum(others),
        simulated=len({person for person, _ in of_week}),
        minimum=cadence.weekly_minimum,
        target=cadence.weekly_target,
        optimal=cadence.weekly_optimal,
    )


def streak(days: set[date], today: date) -> int:
    """Days in a row with a vote, up to today; a day that is not over yet breaks nothing."""
    day = today if today in days else today - timedelta(days=1)
    length = 0
    while day in days:
        length, day = length + 1, day - timedelta(days=1)
    return length


def checked_nickname(given: str) -> str:
    """The name as it will be shown: composed, without white space around it or twice within.

    Raises:
        InvalidRequest: too short, too long, or with characters that cannot be seen.
    """
    name = " ".join(part for part in unicodedata.normalize("NFC", given).split(" ") if part)
    shortest, longest = NICKNAME_LENGTH
    if not name.isprintable():
        raise InvalidRequest(
            "A nickname is made of printable characters. Leave out line breaks and control characters."
        )
    if not shortest <= len(name) <= longest:
        raise InvalidRequest(f"A nickname has {shortest} to {longest} characters; {len(name)} were found.")
    return name
