"""How answers are drawn where a request does not say it."""

import random
from collections.abc import Sequence

from dpo_pipeline.core.votes import Sampling
from dpo_pipeline.settings import Collection, Generation


class Defaults:
    """
    Args:
        longest: tokens that the model generates at most.
    """

    def __init__(self, generation: Generation, collection: Collection, longest: int):
        self._generation, self._collection, self._longest = generation, collection, longest

    def chat(self, asked: Sampling, again: bool = False) -> Sampling:
        """What was asked for, the rest as in production; the seed is drawn where none was given.

        Args:
            again: as warm as two answers of one version, since production may be so cool that it repeats itself.
        """
        warmer = again and self._collection.temperature > self._generation.temperature
        return self._filled(asked, self._collection if warmer else self._generation)

    def comparison(self, asked: Sampling, models: Sequence[str]) -> Sampling:
        """People judge two versions as production would answer.

        Two answers of one version are drawn warmer, so that there is something to choose.
        """
        return self._filled(asked, self._collection if len(models) > len(set(models)) else self._generation)

    def _filled(self, asked: Sampling, usual: Generation | Collection) -> Sampling:
        return Sampling(
            temperature=usual.temperature if asked.temperature is None else asked.temperature,
            top_p=usual.top_p if asked.top_p is None else asked.top_p,
            max_tokens=min(asked.max_tokens or self._longest, self._longest),
            seed=random.getrandbits(31) if asked.seed is None else asked.seed,
        )
