"""Evidence of harm, and of none, that stays valid however often one looks. What it means is for `core.rollout` to say.

People are the units: each is exposed once, and has met an event or not, or counts with the mean of what they met.
"""

import math
from dataclasses import dataclass

import numpy as np

from dpo_pipeline.core.winrate import confidence_sequence

RATIOS = np.exp(np.linspace(math.log(1.1), math.log(40.0), 40))
"""Alternatives to the ratio that is tested, as multiples of it."""
RHO = 0.5  # where the interval for means is tightest: about 2.4 · ln(1/alpha) / RHO² people


@dataclass(frozen=True)
class Events:
    """People of both arms that could have met a bad event, and those that did, each once."""

    new_people: int = 0
    new_bad: int = 0
    control_people: int = 0
    control_bad: int = 0


@dataclass(frozen=True)
class Shares:
    """Sum over people of the share of their requests in which something happened, and how many people."""

    people: int = 0
    total: float = 0.0


@dataclass(frozen=True)
class Opinions:
    """Means of people's ratings: how many people, their mean and variance (n − 1)."""

    people: int = 0
    mean: float = 0.0
    variance: float = 0.0


def ratio_e_value(events: Events, ratio: float) -> float:
    """E-value against "the new version's rate is at most `ratio` times the control's".

    Of every bad event it is asked which arm had it. Under rate ratio r the new arm's share is π r / (π r + 1 − π), with
    π its share of the people exposed; the e-value is the mean likelihood ratio over a grid of r > `ratio` (Robbins
    1970; Lindon and Malek 2022, "Anytime-valid inference for multinomial count data"). The chance that it ever
    reaches 1/alpha is at most alpha.
    """
    exposed = events.new_people + events.control_people
    if not events.new_people or not events.control_people or not events.new_bad + events.control_bad:
        return 1.0
    share = events.new_people / exposed

    def log_likelihood(rates: np.ndarray) -> np.ndarray:
        p = share * rates / (share * rates + 1 - share)
        found: np.ndarray = events.new_bad * np.log(p) + events.control_bad * np.log1p(-p)
        return found

    gains = log_likelihood(ratio * RATIOS) - log_likelihood(np.array([ratio]))[0]
    top = float(gains.max())
    return math.exp(min(top + math.log(float(np.exp(gains - top).mean())), 700.0))


def share_bounds(shares: Shares, alpha: float) -> tuple[float, float]:
    """Interval for the mean share over people, by `core.winrate.confidence_sequence`; (0, 1) without people."""
    return confidence_sequence(shares.total, shares.people - shares.total, alpha)


def difference_bounds(new: Opinions, control: Opinions, alpha: float, scale: float = 1.0) -> tuple[float, float]:
    """Interval for mean(new) − scale · mean(control), valid at all times for large numbers of people.

    Robbins's normal mixture with the variances put in (Waudby-Smith et al. 2024, "Time-uniform central limit theory
    and asymptotic confidence sequences"), half of alpha for each arm.
    """
    if min(new.people, control.people) < 2:
        return -math.inf, math.inf
    width = _width(new, alpha / 2) + scale * _width(control, alpha / 2)
    centre = new.mean - scale * control.mean
    return centre - width, centre + width


def arms_are_uneven(new_people: int, control_people: int, alpha: float) -> bool:
    """Sample-ratio mismatch: two groups of people drawn alike differ in size by more than chance ever allows.

    The uniform mixture over the share against one half, at level alpha whenever one looks (Lindon and Malek 2022).
    """
    total = new_people + control_people
    log_e = math.lgamma(1 + new_people) + math.lgamma(1 + control_people) - math.lgamma(2 + total) + total * math.log(2)
    return log_e >= -math.log(alpha)


def _width(opinions: Opinions, alpha: float) -> float:
    n = opinions.people
    grown = n * RHO**2 + 1
    # A few equal ratings do not mean that everybody agrees: one more person at the other end of a point is assumed.
    variance = opinions.variance + 1.0 / n
    return math.sqrt(variance * 2 * grown / (n * RHO) ** 2 * math.log(math.sqrt(grown) / alpha))
