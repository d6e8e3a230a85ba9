"""How far votes can be trusted: agreement of two voters, of many, of one with themselves, and with a side.

A vote here is a label (`a`, `b`, `tie`, `both_bad`; any strings will do). What a pair is worth for training
belongs to `core.quality`, which version wins to `core.winrate`.
"""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from dpo_pipeline.core.votes import Vote
from dpo_pipeline.core.winrate import confidence_sequence

ShownVote = Literal["left", "right", "tie", "both_bad"]


@dataclass(frozen=True)
class Agreement:
    """`share` in [0, 1] is null without items; `kappa` too, and where both only ever used one label."""

    count: int
    share: float | None
    kappa: float | None


@dataclass(frozen=True)
class Reliability:
    """Krippendorff's α with its bootstrap interval; null where nothing was judged twice, or all labels are one.

    The bounds are null, too, where no unit was drawn again, or none of the draws gave an α.
    """

    units: int
    alpha: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class PositionBias:
    """`left_share` of the decided votes; 0.5 is none, as long as the sides are shuffled."""

    left: int
    right: int
    undecided: int
    left_share: float | None
    low: float
    high: float

    @property
    def found(self) -> bool:
        """Whether the interval, valid however often one looks, leaves out one half."""
        return self.low > 0.5 or self.high < 0.5


@dataclass(frozen=True)
class FlipRate:
    """`rate` in [0, 0.5] is the chance that one vote is the wrong way round, null without repeats."""

    repeats: int
    decided_twice: int
    agreement: float | None
    rate: float | None
    low: float
    high: float


def agreement(first: Sequence[str], second: Sequence[str]) -> Agreement:
    """Share of items on which two voters agree, and Cohen's kappa.

    κ = (p_o − p_e) / (1 − p_e), with p_e what two voters of these habits would agree on by chance (Cohen 1960,
    "A coefficient of agreement for nominal scales").

    Args:
        first, second: (items,), labels of the same items in the same order.

    Raises:
        ValueError: of unequal lengths.
    """
    if len(first) != len(second):
        raise ValueError(f"{len(first)} labels beside {len(second)}; both voters must have judged the same items.")
    count = len(first)
    if not count:
        return Agreement(0, None, None)
    same = sum(one == other for one, other in zip(first, second, strict=True))
    habits, others = Counter(first), Counter(second)
    chance = sum(habits[label] * others[label] for label in habits)  # of count², in whole numbers
    kappa = None if chance == count**2 else (same * count - chance) / (count**2 - chance)
    return Agreement(count, same / count, kappa)


def krippendorff_alpha(
    units: Iterable[Sequence[str]], level: float = 0.05, replicates: int = 1000, seed: int = 0
) -> Reliability:
    """Agreement of any number of voters, nominal, some of whom missed some units; 1 is perfect, 0 is chance.

    α = 1 − D_o / D_e from the coincidences within units (Krippendorff 2011, "Computing Krippendorff's
    alpha-reliability"). The interval at 1 − `level` comes from units drawn again, `replicates` times.

    Args:
        units: for each comparison the labels that it got; those with fewer than two say nothing and are left out.
    """
    judged = [Counter(labels) for labels in units if len(labels) > 1]
    labels = sorted({label for unit in judged for label in unit})
    if len(labels) < 2:
        return Reliability(len(judged), None, None, None)
    table = np.array([[unit[label] for label in labels] for unit in judged], dtype=np.float64)
    count = len(judged)
    alpha = float(_nominal_alpha(table, np.ones((1, count)))[0])
    drawn = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=replicates)
    again = _nominal_alpha(table, drawn.astype(np.float64))
    told = again[np.isfinite(again)]  # units that all got one label, drawn by chance, give no α
    if not len(told):
        return Reliability(count, alpha, None, None)
    low, high = np.quantile(told, [level / 2, 1 - level / 2])
    return Reliability(count, alpha, float(low), float(high))


def position_bias(shown: Iterable[ShownVote], level: float = 0.05) -> PositionBias:
    """How often the left answer wins, of votes that name one; the interval is `core.winrate.confidence_sequence`.

    Raises:
        ValueError: a vote other than left, right, tie or both_bad.
    """
    counts = Counter(shown)
    _refuse_unknown(counts, ("left", "right", "tie", "both_bad"))
    left, right = counts["left"], counts["right"]
    low, high = confidence_sequence(left, right, level)
    share = left / (left + right) if left + right else None
    return PositionBias(left, right, counts["tie"] + counts["both_bad"], share, low, high)


def flip_rate(repeats: Iterable[tuple[Vote, Vote]], level: float = 0.05) -> FlipRate:
    """Chance ε that a vote is the wrong way round, from pairs that were voted on twice.

    Two votes with independent flips agree with probability a = ε² + (1 − ε)², so ε = (1 − √(2a − 1)) / 2, and 0.5
    where they agree no more than coins. Show the pair again with its sides swapped: a habit of choosing one side
    then counts as flips. ε is the `label_smoothing` of DPO's robust loss (Chowdhury et al. 2024, "Provably Robust
    DPO"), which needs it below 0.5. Only pairs decided both times count.

    Args:
        repeats: first and second vote, by answer (a, b), not by side.

    Raises:
        ValueError: a vote other than a, b, tie or both_bad.
    """
    pairs = Counter(repeats)
    _refuse_unknown({vote: 1 for pair in pairs for vote in pair}, ("a", "b", "tie", "both_bad"))
    same = pairs["a", "a"] + pairs["b", "b"]
    changed = pairs["a", "b"] + pairs["b", "a"]
    twice = same + changed
    share = same / twice if twice else None
    least, most = confidence_sequence(same, changed, level)
    rate = None if share is None else _flips(share)
    return FlipRate(pairs.total(), twice, share, rate, _flips(most), _flips(least))


def _flips(share: float) -> float:
    return (1 - math.sqrt(max(2 * share - 1, 0.0))) / 2


def _refuse_unknown(found: Iterable[str], known: tuple[str, ...]) -> None:
    if unknown := sorted(set(found) - set(known)):
        raise ValueError(f"Unknown votes {unknown}; required are {', '.join(known)}.")


def _nominal_alpha(table: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """α for each row of weights (replicates, units) over the counts (units, labels); not finite where undefined."""
    sizes = table.sum(axis=1)
    observed = weights @ ((sizes**2 - (table**2).sum(axis=1)) / (sizes - 1))
    totals = weights @ table
    votes = totals.sum(axis=1)
    expected = votes**2 - (totals**2).sum(axis=1)
    undefined = np.full_like(expected, np.nan)
    ratio = np.divide((votes - 1) * observed, expected, out=undefined, where=expected > 0)
    return np.asarray(1 - ratio, dtype=np.float64)
