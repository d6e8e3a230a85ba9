"""Pairs that were decided a while ago, now and then shown again: whether votes flip, and how far people agree."""

import random
import time
from collections import deque
from contextlib import suppress

from dpo_pipeline.core.questions import OriginFilter
from dpo_pipeline.settings import Collection
from dpo_pipeline.stores.serving_state import StoredComparison

KEPT_DECIDED = 500


class SecondLooks:
    """The newest pairs on questions of the bank that somebody decided; from any thread."""

    def __init__(self, collection: Collection):
        self._collection = collection
        self._random = random.SystemRandom()
        self._decided: deque[tuple[float, StoredComparison]] = deque(maxlen=KEPT_DECIDED)

    def note(self, comparison: StoredComparison) -> None:
        """It was decided now."""
        self._decided.append((time.monotonic(), comparison))

    def forget(self, event_id: str) -> None:
        """The vote on it was a slip."""
        for decided in [each for each in list(self._decided) if each[1].event_id == event_id]:
            with suppress(ValueError):  # newer ones have taken its place
                self._decided.remove(decided)

    def draw(self, annotator: str, origin: OriginFilter) -> StoredComparison | None:
        """One that was decided long enough ago, at the share of the settings and each at most once.

        Shown to the same person it tells how often votes flip, to another one how far people agree.
        """
        collection, now = self._collection, time.monotonic()
        if origin not in ("mix", "bank") or self._random.random() >= collection.repeat_share:
            return None
        old = [each for each in self._decided if now - each[0] > collection.repeat_after_s]
        own = [each for each in old if each[1].annotator == annotator]
        if not old:
            return None
        chosen = self._random.choice(own if own and self._random.random() < 0.5 else old)
        self._decided.remove(chosen)
        return chosen[1]
