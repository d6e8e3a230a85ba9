"""Votes counted while they come in: by day, category, person and pair of versions.

Read from the preference log, so votes given to another server are there too; pairs that were imported or made
by a program are nobody's votes here, and votes that were taken back are not counted. Pages and the choice of the next
question look at it; what is trained on is decided by curation.
"""

import threading
import time
from collections import Counter, deque
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from dpo_pipeline.core.calendar import day_of
from dpo_pipeline.core.leaderboard import Battle, StyleLean, between_two, count_battles, lean_of
from dpo_pipeline.core.matchmaking import PairTally, WeightedRate, against_all
from dpo_pipeline.core.versions import iteration
from dpo_pipeline.core.vote_count import VoteCount, Whose, whose_of
from dpo_pipeline.core.votes import Preference
from dpo_pipeline.errors import LogReplaced
from dpo_pipeline.serving.services.counts import BattleFilter, CountedVote, Counts, Kind
from dpo_pipeline.stores.decode import votes_of
from dpo_pipeline.stores.log_reading import Position, read_batches
from dpo_pipeline.stores.reviews import withdrawn_since

ALL = BattleFilter()
MOST_PROMPTS = 10_000
YOUNG_S, MOST_YOUNG = 60.0, 1_000
"""Votes that were read so long ago, or before so many others, are taken back no more: that takes ten seconds."""
_WON: dict[str, float | None] = {"a": 1.0, "tie": 0.5, "b": 0.0, "both_bad": None}
_WINNER = {"a": "model_a", "b": "model_b", "tie": "tie", "both_bad": "both_bad"}


class Tally:
    """Counts of the whole log. `refresh` reads what is new; safe from many threads."""

    def __init__(
        self,
        log: Path,
        max_line_bytes: int,
        votes_per_person: int,
        zone: ZoneInfo,
        on_prompts: bool = False,
        reviews: Path | None = None,
    ):
        """
        Args:
            votes_per_person: of one person so many votes on the same two versions count as `battles`.
            zone: days are those of it.
            on_prompts: whether votes on each question are counted too.
            reviews: the log that says which votes were taken back; null: none were.
        """
        self._on_prompts, self._reviews = on_prompts, reviews
        self._zone = zone
        self._log, self._max_line_bytes, self._most = log, max_line_bytes, votes_per_person
        self._lock = threading.Lock()
        self._begin()

    def _begin(self) -> None:
        self._position, self._reviewed = Position(), Position()
        self._withdrawn: set[str] = set()
        self._young: deque[CountedVote] = deque()
        self.counts: dict[Whose, Counts] = {"people": Counts(), "simulated": Counts()}
        self._battles: Counter[Battle] = Counter()
        self._kinds: Counter[Kind] = Counter()
        self._styled: Counter[tuple[Battle, StyleLean]] = Counter()
        self._given: Counter[tuple[str, frozenset[str]]] = Counter()
        self._by_prompt: dict[str, PairTally] = {}
        self._weighed: dict[str, dict[str, list[tuple[float, float]]]] = {}

    def refresh(self) -> "Tally":
        """Count the votes that came in since the last time; while another thread does, the counts so far stand."""
        if not self._lock.acquire(blocking=False):
            return self
        try:
            if self._log.exists():
                self._read()
        except LogReplaced:  # counts are of the log that is there; curation refuses and says so
            self._begin()
            self._read()
        finally:
            self._lock.release()
        return self

    def pairs(self) -> dict[frozenset[str], PairTally]:
        """Votes so far between every two versions that met, as `core.matchmaking` takes them."""
        return {
            frozenset((each.model_a, each.model_b)): PairTally(
                each.wins_a + each.wins_b + each.ties, each.wins_a + each.ties / 2
            )
            for each in count_battles(between_two(self.battles()))
        }

    def on_prompts(self) -> dict[str, PairTally]:
        """Votes on each question that was voted on lately, the newest at the end; wins are the newer version's."""
        return self._by_prompt.copy()

    def battles(self, wanted: BattleFilter = ALL) -> Counter[Battle]:
        """How often each was voted. Of one person the first so many votes on the same two versions count, whatever is
        wanted of them.
        """
        if wanted == ALL:
            return self._battles.copy()
        since = None if wanted.days is None else self._today() - timedelta(days=wanted.days - 1)
        found: Counter[Battle] = Counter()
        for kind, count in self._kinds.copy().items():
            if (
                wanted.category in (None, kind.category)
                and wanted.whose in (None, kind.whose)
                and wanted.source in (None, kind.source)
                and (since is None or kind.day >= since)
            ):
                found[kind.battle] += count
        return found

    def styled(self) -> Counter[tuple[Battle, StyleLean]]:
        """All `battles`, with what the first answer had more of."""
        return self._styled.copy()

    def reweighted(self) -> dict[str, WeightedRate]:
        """Each version against all others, as if every pair had been shown equally often."""
        return {name: against_all(met.copy()) for name, met in sorted(self._weighed.copy().items())}

    @property
    def today(self) -> VoteCount:
        day = self._today()
        return VoteCount(self.counts["people"].by_day[day], self.counts["simulated"].by_day[day])

    @property
    def by_category(self) -> Counter[str]:
        """All votes: what is asked next does not hang on whose they are."""
        return self.counts["people"].by_category + self.counts["simulated"].by_category

    @property
    def categories(self) -> dict[str, VoteCount]:
        people, simulated = self.counts["people"].by_category, self.counts["simulated"].by_category
        return {name: VoteCount(people[name], simulated[name]) for name in self.by_category}

    def _today(self) -> date:
        return day_of(datetime.now(UTC), self._zone)

    def _read(self) -> None:
        """What was taken back first: a vote read after that is not counted, and one read before it, no longer."""
        if self._reviews:
            withdrawn, self._reviewed = withdrawn_since(self._reviews, self._reviewed)
            self._withdrawn |= set(withdrawn)
            for counted in [each for each in self._young if each.event.event_id in withdrawn] if withdrawn else ():
                self._young.remove(counted)
                self._take_back(counted)
        now = time.monotonic()
        while self._young and now - self._young[0].at > YOUNG_S:
            self._young.popleft()
        for batch in read_batches(self._log, self._position, self._max_line_bytes):
            for event in votes_of(batch):
                if event.from_people and event.event_id not in self._withdrawn:
                    self._young.append(CountedVote(event, now, self._count(event)))
                    if len(self._young) > MOST_YOUNG:
                        self._young.popleft()
            self._position = batch.end

    def _take_back(self, counted: "CountedVote") -> None:
        """The other way of `_count`."""
        event, day = counted.event, self._day(counted.event)
        counts = self.counts[whose_of(event.source)]
        counts.by_day[day] -= 1
        counts.by_category[event.category] -= 1
        counts.by_person[event.annotator, day] -= 1
        self._given[event.annotator, frozenset((event.model_a, event.model_b))] -= 1
        if not counted.as_battle:
            return
        battle, won = (event.model_a, event.model_b, _WINNER[event.vote]), _WON[event.vote]
        _one_less(self._battles, battle)
        _one_less(self._styled, (battle, lean_of(event.response_a, event.response_b)))
        _one_less(self._kinds, Kind(battle, event.category, event.source, day))
        if isinstance(event.prompt, str) and event.prompt in self._by_prompt and won is not None:
            self._by_prompt[event.prompt] += PairTally(-1, -_newer_won(event, won))
        for name, other, share in _shares(event, won):
            met = self._weighed[name]
            met[other].remove((share, event.likelihood))
            if not met[other]:
                del met[other]

    def _day(self, event: Preference) -> date:
        return day_of(datetime.fromisoformat(event.recorded_at), self._zone)

    def _count(self, event: Preference) -> bool:
        """Whether it counts as a battle too."""
        day, counts = self._day(event), self.counts[whose_of(event.source)]
        counts.by_day[day] += 1
        counts.by_category[event.category] += 1
        counts.by_person[event.annotator, day] += 1
        given = event.annotator, frozenset((event.model_a, event.model_b))
        self._given[given] += 1
        if self._given[given] > self._most:
            return False
        battle = event.model_a, event.model_b, _WINNER[event.vote]
        self._battles[battle] += 1
        self._styled[battle, lean_of(event.response_a, event.response_b)] += 1
        self._kinds[Kind(battle, event.category, event.source, day)] += 1
        won = _WON[event.vote]
        if self._on_prompts and won is not None and isinstance(event.prompt, str):
            self._count_on_prompt(event.prompt, _newer_won(event, won))
        for name, other, share in _shares(event, won):
            self._weighed.setdefault(name, {}).setdefault(other, []).append((share, event.likelihood))
        return True

    def _count_on_prompt(self, prompt: str, share: float) -> None:
        self._by_prompt[prompt] = self._by_prompt.pop(prompt, PairTally()) + PairTally(1, share)
        if len(self._by_prompt) > MOST_PROMPTS:
            del self._by_prompt[next(iter(self._by_prompt))]


def _newer_won(event: Preference, won: float) -> float:
    """The share that the newer version won, of what answer A won."""
    if event.model_a == event.model_b:
        return 0.5
    return won if iteration(event.model_a) > iteration(event.model_b) else 1 - won


def _shares(event: Preference, won: float | None) -> list[tuple[str, str, float]]:
    """(version, the other, share won) of a vote between two."""
    if won is None or event.model_a == event.model_b:
        return []
    return [(event.model_a, event.model_b, won), (event.model_b, event.model_a, 1 - won)]


def _one_less(counts: Counter[Any], what: Any) -> None:
    counts[what] -= 1
    if not counts[what]:
        del counts[what]
