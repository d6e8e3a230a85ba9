"""The kinds of questions that people ask, clustered every ten minutes in a background thread."""

import threading
import time
from collections.abc import Mapping, Sequence

from dpo_pipeline.core.matchmaking import PairTally
from dpo_pipeline.core.prompt_choice import by_kind, kinds, ratios

KEEP_S = 600.0
MOST_VOTED = 2_000
"""Of the questions that were voted on, the newest so many tell how well a kind is known."""
NEW = -1
"""The kind of what nobody has looked at yet."""


class PromptKinds:
    def __init__(self) -> None:
        self._found: dict[str, int] = {}
        self._looked = -KEEP_S
        self._lock = threading.Lock()

    def look_at(self, questions: Sequence[str], voted: Mapping[str, PairTally]) -> None:
        """Find the kinds of these, and of what was voted on, where they were not looked for lately."""
        with self._lock:
            if time.monotonic() - self._looked < KEEP_S:
                return
            self._looked = time.monotonic()
        texts = list(dict.fromkeys([*questions, *list(voted)[-MOST_VOTED:]]))
        threading.Thread(target=self._find, args=(texts,), name="prompt kinds", daemon=True).start()

    def ratios(self, questions: Sequence[str], voted: Mapping[str, PairTally], share: float) -> list[float]:
        """As `core.prompt_choice.ratios`, by the kinds that are known.

        Args:
            voted: votes on each question.
        """
        found = self._found
        return ratios([found.get(question, NEW) for question in questions], by_kind(found, voted), share)

    def _find(self, texts: list[str]) -> None:
        self._found = dict(zip(texts, kinds(texts), strict=True))
