"""Votes between versions, counted by pair: whichever way round they met, and what a tie is worth."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from dpo_pipeline.core.winrate import Floats

Battle = tuple[str, str, str]
"""(model_a, model_b, winner), the winner out of `WINNERS`."""
Treatment = Literal["half", "drop"]
WINNERS = ("model_a", "model_b", "tie", "both_bad")


@dataclass(frozen=True)
class PairCount:
    """All votes between two models; which of the two is `model_a` means nothing."""

    model_a: str
    model_b: str
    wins_a: int = 0
    wins_b: int = 0
    ties: int = 0
    both_bad: int = 0


def count_battles(battles: Iterable[Battle] | Mapping[Battle, int]) -> list[PairCount]:
    """Sum (model_a, model_b, winner) per pair, whichever way round they met; sorted by name.

    Args:
        battles: one by one, or how often each was.

    Raises:
        ValueError: a winner other than model_a, model_b, tie or both_bad, or a model against itself.
    """
    pairs: dict[tuple[str, str], list[int]] = {}
    for (first, second, winner), count in Counter(battles).items():
        if winner not in WINNERS or first == second:
            raise ValueError(
                f"A battle of {first!r} and {second!r} with winner {winner!r}: two models are required, and one of "
                f"{', '.join(WINNERS)}."
            )
        place = WINNERS.index(winner)
        if second < first:
            first, second, place = second, first, 1 - place if place < 2 else place
        pairs.setdefault((first, second), [0, 0, 0, 0])[place] += count
    return [PairCount(*names, *pairs[names]) for names in sorted(pairs)]


def counted(battles: Iterable[Battle | PairCount]) -> list[PairCount]:
    given = list(battles)
    counts = [each for each in given if isinstance(each, PairCount)]
    wrong = [c for c in counts if c.model_a == c.model_b or min(c.wins_a, c.wins_b, c.ties, c.both_bad) < 0]
    if wrong:
        raise ValueError(f"{wrong[0]}: two models and counts of at least 0 are required.")
    if len(counts) < len(given):
        counts += count_battles(each for each in given if not isinstance(each, PairCount))
    return counts


def total(pair: PairCount) -> int:
    return pair.wins_a + pair.wins_b + pair.ties + pair.both_bad


def tables(counts: Sequence[PairCount], ties: Treatment, both_bad: Treatment) -> tuple[list[str], Floats, Floats]:
    """Names, wins (m, m) of row over column, and draws (m, m), symmetric."""
    names = sorted({name for pair in counts for name in (pair.model_a, pair.model_b)})
    place = {name: i for i, name in enumerate(names)}
    wins, draws = np.zeros((2, len(names), len(names)))
    for pair in counts:
        a, b = place[pair.model_a], place[pair.model_b]
        wins[a, b] += pair.wins_a
        wins[b, a] += pair.wins_b
        drawn = pair.ties * (ties == "half") + pair.both_bad * (both_bad == "half")
        draws[a, b] += drawn
        draws[b, a] += drawn
    return names, wins, draws
