"""The kinds of questions that people ask, found anew now and then, in a thread of its own."""

import threading
import time
from collections.abc import Mapping, Sequence

from dpo_pipeline.core.matchmaking import PairTally
from dpo_pipeline.core.prompt_choice import kinds, ratios
from dpo_pipeline.core.votes import prompt_key

KEEP_S = 600.0
NEW = -1
"""The kind of what nobody has looked at yet."""


class PromptKinds:
    def __init__(self) -> None:
        self._found: dict[str, int] = {}
        self._looked = -KEEP_S
        self._lock = threading.Lock()

    def ratios(self, questions: Sequence[str], voted: Mapping[str, PairTally], share: float) -> list[float]:
        """As `core.prompt_choice.ratios`, by the kinds that are known.

        Args:
            voted: votes on each question, by `prompt_key`.
        """
        self._look_at(questions)
        tallies: dict[int, PairTally] = {}
        for question, kind in self._found.items():
            if given := voted.get(prompt_key(question)):
                before = tallies.get(kind, PairTally())
                tallies[kind] = PairTally(before.votes + given.votes, before.wins + given.wins)
        return ratios([self._found.get(question, NEW) for question in questions], tallies, share)

    def _look_at(self, questions: Sequence[str]) -> None:
        with self._lock:
            if time.monotonic() - self._looked < KEEP_S:
                return
            self._looked = time.monotonic()
        threading.Thread(target=self._find, args=(list(questions),), name="prompt kinds", daemon=True).start()

    def _find(self, questions: list[str]) -> None:
        self._found = dict(zip(questions, kinds(questions), strict=True))
