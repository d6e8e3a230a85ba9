"""Votes counted while they come in: by day, category, person and pair of versions.

Read from the preference log, so votes given to another server are there too; pairs that were imported or made
by a program are nobody's votes here. Pages and the choice of the next question look at it; what is
trained on is decided by curation.
"""

import threading
from collections import Counter
from datetime import UTC, date, datetime
from pathlib import Path

from dpo_pipeline.core.votes import Preference
from dpo_pipeline.errors import LogReplaced
from dpo_pipeline.stores.log import Position, read_batches
from dpo_pipeline.stores.reading import votes_of

Battle = tuple[str, str, str]
"""(model_a, model_b, winner), the winner in the words of `core.leaderboard`."""

_WINNER = {"a": "model_a", "b": "model_b", "tie": "tie", "both_bad": "both_bad"}


class Tally:
    """Counts of the whole log. `refresh` reads what is new; safe from many threads."""

    def __init__(self, log: Path, max_line_bytes: int, votes_per_person: int):
        """`votes_per_person`: of one person so many votes on the same two versions count in `battles`."""
        self._log, self._max_line_bytes, self._most = log, max_line_bytes, votes_per_person
        self._lock = threading.Lock()
        self._begin()

    def _begin(self) -> None:
        self._position = Position()
        self.by_day: Counter[date] = Counter()
        self.by_category: Counter[str] = Counter()
        self.by_person: Counter[tuple[str, date]] = Counter()
        self.battles: Counter[Battle] = Counter()
        self._given: Counter[tuple[str, frozenset[str]]] = Counter()

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

    @property
    def today(self) -> int:
        return self.by_day[datetime.now(UTC).date()]

    def _read(self) -> None:
        for batch in read_batches(self._log, self._position, self._max_line_bytes):
            for event in votes_of(batch):
                self._count(event)
            self._position = batch.end

    def _count(self, event: Preference) -> None:
        if event.source in ("import", "synthetic"):
            return
        day = datetime.fromisoformat(event.recorded_at).date()
        self.by_day[day] += 1
        self.by_category[event.category] += 1
        self.by_person[event.annotator, day] += 1
        given = event.annotator, frozenset((event.model_a, event.model_b))
        self._given[given] += 1
        if self._given[given] <= self._most:
            self.battles[event.model_a, event.model_b, _WINNER[event.vote]] += 1
