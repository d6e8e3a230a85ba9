"""Which two versions a person compares next, each pair with the probability with which it is picked.

Most comparisons serve what is due: until its A/B test is decided, the challenger against the champion; then two
samples of the newest version, which are what the next one learns from. A set share measures the other pairs. Those are
split evenly among up to three versions; among more, a pair is picked in proportion to how much one more vote narrows
its estimate, √(v/n) − √(v/(n + 1)) with v = p(1 − p), over a uniform floor of 10 % (Chiang et al. 2024, "Chatbot
Arena").
"""

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

FLOOR = 0.10
FEW = 3
ENOUGH_VOTES = 10
"""Votes on a pair below which their spread says nothing of the error."""


@dataclass(frozen=True)
class Match:
    """`propensity` is the probability with which this pair is picked."""

    first: str
    second: str
    propensity: float


@dataclass(frozen=True)
class PairTally:
    """Votes so far between two versions that name a winner or a tie; `wins` of the first, ties half."""

    votes: int = 0
    wins: float = 0.0

    def __add__(self, other: "PairTally") -> "PairTally":
        return PairTally(self.votes + other.votes, self.wins + other.wins)


@dataclass(frozen=True)
class WeightedRate:
    """`rate` is null without votes; `effective` is how many equally weighted votes would be as sure."""

    rate: float | None
    effective: float
    std_error: float | None


def matches(
    champion: str,
    challenger: str | None,
    served: Sequence[str],
    tallies: Mapping[frozenset[str], PairTally],
    measure_share: float,
    ab_test: bool = True,
) -> list[Match]:
    """All pairs that may be picked; their propensities sum to 1.

    Args:
        served: every version that can answer.
        tallies: by the two names.
        measure_share: of the comparisons, for pairs other than the one that is due.
        ab_test: whether the challenger's A/B test is still open.
    """
    newest = challenger or champion
    due = (newest, champion if ab_test else newest)
    others = [pair for pair in itertools.combinations(sorted(set(served)), 2) if set(pair) != set(due)]
    if not others or measure_share == 0:
        return [Match(*due, 1.0)]
    shares = _evenly(len(others)) if len(set(served)) <= FEW else _by_gain(others, tallies)
    measured = [Match(*pair, measure_share * share) for pair, share in zip(others, shares, strict=True)]
    return [Match(*due, 1.0 - measure_share), *measured]


def pick(offered: Sequence[Match], draw: float) -> Match:
    """One of the matches, by a number drawn evenly from [0, 1)."""
    reached = 0.0
    for match in offered:
        reached += match.propensity
        if draw < reached:
            return match
    return offered[-1]


def reweighted_rate(votes: Iterable[tuple[float, float]]) -> WeightedRate:
    """Share of wins, votes weighed as if each had been asked for with the same probability.

    Votes weigh the inverse of how likely they were (Hájek's estimator), with the standard error of a ratio.

    Args:
        votes: (share won: 1, 0.5 or 0; how likely it was to be asked for, in whatever unit) of each.
    """
    given = [(share, 1 / propensity) for share, propensity in votes]
    total = sum(weight for _, weight in given)
    if not given:
        return WeightedRate(None, 0.0, None)
    rate = sum(share * weight for share, weight in given) / total
    squares = sum(weight**2 for _, weight in given)
    spread = sum((weight * (share - rate)) ** 2 for share, weight in given)
    error = math.sqrt(spread) / total if len(given) > 1 else None
    return WeightedRate(rate, total**2 / squares, error)


def against_all(by_opponent: Mapping[str, Sequence[tuple[float, float]]]) -> WeightedRate:
    """A version's share of wins as if it had met every opponent equally often: the mean of its rates against each.

    Within a pair votes weigh the inverse of how likely they were; across pairs that would not do, because what a
    propensity means changes with the versions that are served.

    Args:
        by_opponent: votes against each, as `reweighted_rate` takes them.
    """
    found = [reweighted_rate(votes) for votes in by_opponent.values() if votes]
    rates = [each.rate for each in found if each.rate is not None]
    errors = [each.std_error for each in found if each.std_error is not None]
    if not rates:
        return WeightedRate(None, 0.0, None)
    effective = sum(each.effective for each in found)
    known = len(errors) == len(rates) and min(each.effective for each in found) >= ENOUGH_VOTES
    error = math.hypot(*errors) / len(rates) if known else None
    return WeightedRate(sum(rates) / len(rates), effective, error)


def gain(tally: PairTally) -> float:
    """How much one more vote narrows the standard error; one vote of each kind is assumed before the first."""
    votes, wins = tally.votes + 2, tally.wins + 1
    variance = wins / votes * (1 - wins / votes)
    return math.sqrt(variance / votes) - math.sqrt(variance / (votes + 1))


def _evenly(count: int) -> list[float]:
    return [1 / count] * count


def _by_gain(pairs: Sequence[tuple[str, str]], tallies: Mapping[frozenset[str], PairTally]) -> list[float]:
    gains = [gain(tallies.get(frozenset(pair), PairTally())) for pair in pairs]
    total = sum(gains)
    return [FLOOR / len(pairs) + (1 - FLOOR) * gain / total for gain in gains]
