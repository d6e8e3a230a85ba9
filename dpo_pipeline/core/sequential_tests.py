"""Evidence of harm, and of none, that stays valid however often one looks. What it means is for `core.rollout` to say.

The unit is what was assigned: a person, a conversation or a request. Each is exposed once, and has met an event or not,
or counts with the mean of what it met. Which arm a unit belongs to was drawn, so that events which come in heaps, in
one person or one hour, fall on both arms alike.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dpo_pipeline.core.winrate import confidence_sequence

RATIOS = np.exp(np.linspace(math.log(1.1), math.log(40.0), 40))
"""Alternatives to the ratio that is tested, as multiples of it."""
RHO = 0.5  # where the interval for means is tightest: about 2.4 · ln(1/alpha) / RHO² units


@dataclass(frozen=True)
class Events:
    """Units of both arms that could have met a bad event, and those that did, each once."""

    new: int = 0
    new_bad: int = 0
    control: int = 0
    control_bad: int = 0

    @property
    def bad(self) -> int:
        """Bad events that say something of the ratio: where one arm is empty, none does."""
        return self.new_bad + self.control_bad if self.new and self.control else 0

    def share_of_new(self, ratio: float) -> float:
        """Of bad events, the share that the new arm has where its rate is `ratio` times the control's."""
        exposed = self.new / (self.new + self.control)
        return exposed * ratio / (exposed * ratio + 1 - exposed)


@dataclass(frozen=True)
class Shares:
    """Sum over units of the share of their requests in which something happened, and how many units."""

    units: int = 0
    total: float = 0.0

    def __add__(self, other: "Shares") -> "Shares":
        return Shares(self.units + other.units, self.total + other.total)

    @property
    def rate(self) -> float | None:
        return self.total / self.units if self.units else None


@dataclass(frozen=True)
class Opinions:
    """Mean ratings of units: how many, their mean and variance (n − 1)."""

    units: int = 0
    mean: float = 0.0
    variance: float = 0.0

    def __add__(self, other: "Opinions") -> "Opinions":
        """Both together (Chan, Golub and LeVeque 1979, on combining variances)."""
        if not self.units or not other.units:
            return self if self.units else other
        units, apart = self.units + other.units, other.mean - self.mean
        mean = self.mean + apart * other.units / units
        within = (self.units - 1) * self.variance + (other.units - 1) * other.variance
        squares = within + apart**2 * self.units * other.units / units
        return Opinions(units, mean, squares / (units - 1))


def ratio_e_value(stages: Sequence[Events], ratio: float) -> float:
    """E-value against "the new version's rate is at most `ratio` times the control's", over all stages of a rollout.

    Of every bad event it is asked which arm had it. Under rate ratio r the new arm's share is π r / (π r + 1 − π), with
    π its share of the units exposed in that stage. The e-value is the mean over a grid of r > `ratio` of the likelihood
    ratio, multiplied over the stages (Robbins 1970; Lindon and Malek 2022, "Anytime-valid inference for multinomial
    count data"). The chance that it ever reaches 1/alpha is at most alpha.
    """
    gains = np.zeros(len(RATIOS))
    for events in stages:
        if events.bad:
            gains += _log_likelihood(events, ratio * RATIOS) - _log_likelihood(events, np.array([ratio]))[0]
    top = float(gains.max())
    return math.exp(min(top + math.log(float(np.exp(gains - top).mean())), 700.0))


def ratio_p_value(stages: Sequence[Events], ratio: float) -> float:
    """The chance of at least so many bad events in the new arm where its rate is `ratio` times the control's.

    Looked at once: conditional on the number of bad events, the new arm's is a sum of binomials, one a stage, whose
    distribution is convolved exactly (for one stage, Przyborowski and Wilenski 1940).
    """
    chances, first, met = np.ones(1), 0, 0
    for events in stages:
        if events.bad:
            share = events.share_of_new(ratio)
            # Beyond twelve standard deviations and some lies less than 1e-30: large counts need not cost their square.
            width = math.ceil(12 * math.sqrt(events.bad * share * (1 - share))) + 60
            low = max(0, int(events.bad * share) - width)
            high = min(events.bad, int(events.bad * share) + width)
            chances = np.convolve(chances, _binomial(np.arange(low, high + 1), events.bad, share))
            first += low
            met += events.new_bad
    return min(float(chances[max(met - first, 0) :].sum()), 1.0)


def _binomial(met: np.ndarray, of: int, share: float) -> np.ndarray:
    """Probability of each number of `met` among `of`, to nine digits at a million; `scipy.stats` takes half a second to
    import, and a hundred times as long.
    """
    from scipy.special import gammaln, xlog1py, xlogy  # not at the top: sensors import this module, and test nothing

    ways = gammaln(of + 1) - gammaln(met + 1) - gammaln(of - met + 1)
    found: np.ndarray = np.exp(ways + xlogy(met, share) + xlog1py(of - met, -share))
    return found


def _log_likelihood(events: Events, ratios: np.ndarray) -> np.ndarray:
    exposed = events.new / (events.new + events.control)
    p = exposed * ratios / (exposed * ratios + 1 - exposed)
    found: np.ndarray = events.new_bad * np.log(p) + events.control_bad * np.log1p(-p)
    return found


def share_bounds(shares: Shares, alpha: float) -> tuple[float, float]:
    """Interval for the mean share over units, by `core.winrate.confidence_sequence`; (0, 1) without units."""
    return confidence_sequence(shares.total, shares.units - shares.total, alpha)


def difference_bounds(new: Opinions, control: Opinions, alpha: float, scale: float = 1.0) -> tuple[float, float]:
    """Interval for mean(new) − scale · mean(control), valid at all times for large numbers of units.

    Robbins's normal mixture with the variances put in (Waudby-Smith et al. 2024, "Time-uniform central limit theory
    and asymptotic confidence sequences"), half of alpha for each arm.
    """
    if min(new.units, control.units) < 2:
        return -math.inf, math.inf
    width = _width(new, alpha / 2) + scale * _width(control, alpha / 2)
    centre = new.mean - scale * control.mean
    return centre - width, centre + width


def arms_are_uneven(new: int, control: int, alpha: float) -> bool:
    """Sample-ratio mismatch: two groups of units drawn alike differ in size by more than chance ever allows.

    The uniform mixture over the share against one half, at level alpha whenever one looks (Lindon and Malek 2022).
    """
    total = new + control
    log_e = math.lgamma(1 + new) + math.lgamma(1 + control) - math.lgamma(2 + total) + total * math.log(2)
    return log_e >= -math.log(alpha)


def _width(opinions: Opinions, alpha: float) -> float:
    n = opinions.units
    grown = n * RHO**2 + 1
    # A few equal ratings do not mean that everybody agrees: one more rating at the other end of a point is assumed.
    variance = opinions.variance + 1.0 / n
    return math.sqrt(variance * 2 * grown / (n * RHO) ** 2 * math.log(math.sqrt(grown) / alpha))
