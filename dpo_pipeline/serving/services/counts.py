"""Votes counted together: what they have in common, and how many won what."""

from collections import Counter
from dataclasses import dataclass, field
from datetime import date
from typing import NamedTuple

from dpo_pipeline.core.leaderboard import Battle
from dpo_pipeline.core.vote_count import Whose, whose_of
from dpo_pipeline.core.votes import Preference, Source


@dataclass(frozen=True)
class BattleFilter:
    """Which votes a leaderboard is of; null: any. `days`: those of the last so many days, today included."""

    category: str | None = None
    whose: Whose | None = None
    source: Source | None = None
    days: int | None = None


class Kind(NamedTuple):
    """What votes that are counted together have in common."""

    battle: Battle
    category: str
    source: Source
    day: date

    @property
    def whose(self) -> Whose:
        return whose_of(self.source)


class CountedVote(NamedTuple):
    """A vote that was counted, when by a clock that only goes forward, and whether as a battle too."""

    event: Preference
    at: float
    as_battle: bool


@dataclass(frozen=True)
class Counts:
    by_day: Counter[date] = field(default_factory=Counter)
    by_category: Counter[str] = field(default_factory=Counter)
    by_person: Counter[tuple[str, date]] = field(default_factory=Counter)
