"""Win rates controlled for length and side: what is left when neither may speak.

They hold at a fixed number of votes: they inform, and gate nothing.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike

from dpo_pipeline.core.logistic_fit import Fit, clustered_error, estimable, fit_logistic, sigmoid, sigmoid_of
from dpo_pipeline.core.winrate import SHARES, Floats, Outcome

APART = 0.10  # raw and controlled rates further apart than this deserve a look


@dataclass(frozen=True)
class SidedComparison:
    """One vote with what may have swayed it: where the model's answer stood, and both lengths in characters."""

    person: str
    outcome: Outcome
    on_left: bool
    length: int
    other_length: int


@dataclass(frozen=True)
class ControlledWinRate:
    """`rate` is the win rate at equal lengths and with no side preferred, null where the votes cannot give it.

    `left_rate` is how often the left answer wins among equals (0.5: no position bias), `length_effect` the change
    in log-odds from an answer of no length to one beside nothing; `std_error` is on the scale of `rate`.
    """

    count: int
    people: int
    raw: float | None
    rate: float | None
    std_error: float | None
    low: float
    high: float
    left_rate: float | None
    length_effect: float | None
    warnings: tuple[str, ...]

    def __str__(self) -> str:
        if self.rate is None:
            return "not to be told"
        return f"{self.rate:.1%} [{self.low:.1%}, {self.high:.1%}]"


@dataclass(frozen=True)
class LengthControlledWinRate:
    """`rate` in [0, 1] is the preference expected at equal lengths; `std_error` is null with too few questions."""

    count: int
    raw: float
    rate: float
    std_error: float | None
    length_effect: float
    warnings: tuple[str, ...]


def controlled_win_rate(comparisons: Sequence[SidedComparison], alpha: float = 0.05) -> ControlledWinRate:
    """The win rate that is left when neither length nor side may speak.

    One logistic regression, `left wins ~ 1 + side + (L − R) / (L + R)` with side +1 where the model stood on the
    left and −1 on the right, L and R the characters of both answers, and a tie as half a win (Papke and Wooldridge
    1996, "Econometric methods for fractional response variables"). σ(side) is the controlled rate, σ(constant) the
    left rate. Standard errors are clustered by person (Liang and Zeger 1986), with the correction
    G/(G − 1) · (n − 1)/(n − k). Valid when looked at once; below some twenty people the interval is too narrow.

    Raises:
        ValueError: an unknown outcome or a negative length.
    """
    count, people = len(comparisons), len({each.person for each in comparisons})
    if not comparisons:
        return ControlledWinRate(0, 0, None, None, None, 0.0, 1.0, None, None, ("no comparisons",))
    if any(each.outcome not in SHARES or each.length < 0 or each.other_length < 0 for each in comparisons):
        raise ValueError("Every comparison must be a win, loss or tie, with lengths of at least 0 characters.")
    won = np.array([SHARES[each.outcome] for each in comparisons])
    raw = float(won.mean())
    side = np.array([1.0 if each.on_left else -1.0 for each in comparisons])
    lengths = np.array([(each.length, each.other_length) for each in comparisons], dtype=np.float64)
    longer = side * (lengths[:, 0] - lengths[:, 1]) / np.maximum(lengths.sum(axis=1), 1.0)
    design = np.column_stack([np.ones(count), side, longer])
    if not estimable(design, np.array([[0.0, 1.0, 0.0]])):
        reason = "side and length cannot be told from the win rate: show the model on both sides, at several lengths"
        return ControlledWinRate(count, people, raw, None, None, 0.0, 1.0, None, None, (reason,))
    fit = fit_logistic(design, np.where(side > 0, won, 1 - won))
    constant, advantage, effect = fit.weights.tolist()
    rate = sigmoid_of(advantage)
    error = clustered_error(fit, [each.person for each in comparisons])
    z = NormalDist().inv_cdf(1 - alpha / 2)
    low, high = (0.0, 1.0) if error is None else (sigmoid_of(advantage - z * error), sigmoid_of(advantage + z * error))
    return ControlledWinRate(
        count=count,
        people=people,
        raw=raw,
        rate=rate,
        std_error=None if error is None else rate * (1 - rate) * error,
        low=low,
        high=high,
        left_rate=sigmoid_of(constant),
        length_effect=effect,
        warnings=_warnings(raw, rate, fit, people),
    )


def length_controlled_win_rate(
    preferences: ArrayLike, len_model: ArrayLike, len_baseline: ArrayLike, difficulty: ArrayLike | None = None
) -> LengthControlledWinRate:
    """Preference for the model over the baseline at equal lengths, in the form of AlpacaEval 2.

    Logistic regression of the preference on 1, tanh(Δ / std(Δ)) and the difficulty, with Δ = baseline − model in
    characters; the answer is the mean prediction over the questions with Δ set to 0. Dubois et al. (2024),
    "Length-Controlled AlpacaEval: A Simple Way to Debias Automatic Evaluators". Here by maximum likelihood for this
    one model; their boards also shrink towards other models, which moves their figures by a little. The standard
    error is that of an M-estimator over questions, with n/(n − k); without covariates it is that of a mean.

    Args:
        preferences: (questions,), of the model, each in [0, 1]; a tie is 0.5.
        len_model, len_baseline: (questions,), in characters.
        difficulty: (questions,), any scale, or null.

    Raises:
        ValueError: no question, unequal shapes, a value outside its range, or length differences other than 0
            that hardly vary, so that length cannot be told from the win rate.
    """
    preferred = np.asarray(preferences, dtype=np.float64)
    gap = np.asarray(len_baseline, dtype=np.float64) - np.asarray(len_model, dtype=np.float64)
    hardness = np.zeros_like(preferred) if difficulty is None else np.asarray(difficulty, dtype=np.float64)
    _check_questions(preferred, gap, hardness)
    count = len(preferred)
    scaled = np.tanh(gap / gap.std(ddof=1)) if np.ptp(gap) else np.sign(gap)
    # Shifted and scaled for the solver's sake: beside a constant, neither changes a prediction.
    hardness = (hardness - hardness.mean()) / hardness.std() if np.ptp(hardness) else np.zeros(count)
    design = np.column_stack([np.ones(count), scaled, hardness])
    at_equal_length = design * np.array([1.0, 0.0, 1.0])
    if not estimable(design, at_equal_length):
        raise ValueError(
            f"The {count} length differences ({gap.min():g} to {gap.max():g} characters) hardly vary, or only with the "
            "difficulty: length cannot be told from the win rate. Add questions, or leave the difficulty out."
        )
    fit = fit_logistic(design, preferred)
    predicted = sigmoid(at_equal_length @ fit.weights)
    rate, raw = float(predicted.mean()), float(preferred.mean())
    gradient = (predicted * (1 - predicted)) @ at_equal_length / count
    influence = predicted - rate + count * (fit.scores @ fit.inverse @ gradient)
    free = count - int(np.linalg.matrix_rank(design))
    error = math.sqrt(float(influence @ influence) / (count * free)) if free > 0 and not fit.separated else None
    return LengthControlledWinRate(count, raw, rate, error, float(fit.weights[1]), _warnings(raw, rate, fit, count))


def _check_questions(preferred: Floats, gap: Floats, hardness: Floats) -> None:
    if preferred.ndim != 1 or not preferred.size or gap.shape != preferred.shape or hardness.shape != preferred.shape:
        shapes = f"{preferred.shape}, {gap.shape}, {hardness.shape}"
        raise ValueError(f"Preferences, lengths and difficulty must be of one length, at least 1; found {shapes}.")
    if not (np.isfinite(gap).all() and np.isfinite(hardness).all() and ((preferred >= 0) & (preferred <= 1)).all()):
        raise ValueError("Preferences must lie in [0, 1]; lengths and difficulty must be finite numbers.")


def _warnings(raw: float, rate: float, fit: Fit, units: int) -> tuple[str, ...]:
    found = []
    if units < 2:
        found.append("one voice only: no standard error")
    if fit.separated:
        found.append("at equal lengths one side won every time: this rate is an extrapolation, without an error bar")
    if abs(raw - rate) > APART:
        found.append(f"raw {raw:.1%} and controlled {rate:.1%} differ by more than {APART * 100:.0f} points")
    return tuple(found)
