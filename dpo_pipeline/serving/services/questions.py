"""Drawing the next question: from the bank, from what people ask in production, or from the edge cases.

What may be drawn is decided in `core.questions`; here are the files, the requests and the dice.
"""

import random
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from dpo_pipeline.core.matchmaking import PairTally
from dpo_pipeline.core.questions import (
    AskedQuestion,
    Origin,
    QuestionFilter,
    askable,
    candidates,
    least_covered,
    origin_by_shares,
    production_questions,
)
from dpo_pipeline.errors import DatabaseUnavailable
from dpo_pipeline.serving.services.prompt_kinds import PromptKinds
from dpo_pipeline.settings import Collection
from dpo_pipeline.stores.bank import read_bank, read_edge_cases
from dpo_pipeline.stores.serving_state import ServingState

Voted = Mapping[str, PairTally]
KEEP_S = 10.0
"""How long a look at the newest requests is good for; finding none is not kept."""


class Questions:
    """Questions that may be asked, none of them held out for evaluation."""

    def __init__(
        self,
        collection: Collection,
        bank_dir: Path,
        state: ServingState,
        voted: Callable[[], Voted],
        may_choose: Callable[[], bool] = lambda: True,
    ):
        """
        Args:
            voted: asked for the votes on each question.
            may_choose: asked whether questions may be drawn by worth now, where the settings say so.
        """
        self._collection, self._may_choose = collection, may_choose
        self._state, self._voted, self._kinds = state, voted, PromptKinds()
        self._random = random.SystemRandom()
        self._whole_bank = read_bank(bank_dir)
        share = collection.holdout_share
        self._bank = askable(self._whole_bank, "bank", share)
        self._texts = frozenset(each.question for each in self._bank)
        self._edge_cases = askable(read_edge_cases(bank_dir), "edge_case", share)
        self._production: tuple[float, tuple[AskedQuestion, ...]] = (0.0, ())

    def draw(self, wish: QuestionFilter, votes: Mapping[str, int]) -> AskedQuestion:
        """One question.

        Args:
            votes: by category; the bank is asked for the one with the fewest.
        """
        origin = self._by_shares() if wish.origin == "mix" else wish.origin
        pools: dict[Origin, tuple[AskedQuestion, ...]] = {"bank": self._bank, "edge_case": self._edge_cases}
        if origin == "production":
            pools["production"] = self._from_production()
        found = candidates(pools, origin, wish, least_covered(votes))
        share = self._collection.worth_share
        if not share or found[0].origin != "production" or not self._may_choose():
            return self._random.choice(found)
        voted = self._voted()
        self._kinds.look_at([each.question for each in pools["production"]], voted)
        weights = self._kinds.ratios([each.question for each in found], voted, share)
        drawn = self._random.choices(range(len(found)), weights)[0]
        return replace(found[drawn], ratio=weights[drawn])

    def of_production(self, prompt: str, person: str) -> AskedQuestion | None:
        """What somebody asked in a chat as a question to compare answers to; null where it is held out."""
        found = production_questions({prompt: person}, self._whole_bank, self._collection.holdout_share)
        return found[0] if found else None

    def in_bank(self, prompt: str | list[dict[str, str]]) -> bool:
        """Whether the prompt is a question of the bank, word for word; a conversation is none."""
        return isinstance(prompt, str) and prompt in self._texts

    def _by_shares(self) -> Origin:
        shares = self._collection
        return origin_by_shares(self._random.random(), shares.production_share, shares.edge_case_share)

    def _from_production(self) -> tuple[AskedQuestion, ...]:
        seen_at, questions = self._production
        if not questions or time.monotonic() - seen_at > KEEP_S:
            try:
                prompts = self._state.newest_prompts()
            except DatabaseUnavailable:  # those that were there, or else the bank, are good enough
                return questions
            questions = production_questions(prompts, self._whole_bank, self._collection.holdout_share)
            self._production = time.monotonic(), questions
        return questions
