"""Win rates as people gave them, with an interval that stays valid however often one looks.

Of votes that are looked at all the time only this rate with its confidence sequence may gate anything. An evaluation,
looked at once, has `mean_interval`. Ties count half to each side. What length and side have to do with a win belongs to
`core.controlled_winrate`, whether two voters agree to `core.agreement`, many versions at once to `core.leaderboard`.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Outcome = Literal["win", "loss", "tie"]
Floats = NDArray[np.float64]
SHARES: dict[str, float] = {"win": 1.0, "tie": 0.5, "loss": 0.0}


@dataclass(frozen=True)
class WinRate:
    """`rate` is null where nobody voted: no data is not fifty per cent.

    `people` is null where each vote was taken for a person of its own; `unit` says what was counted once: a person, or
    a question or vote instead.
    """

    wins: int
    losses: int
    ties: int
    rate: float | None
    low: float
    high: float
    people: int | None = None
    unit: Literal["people", "questions", "votes"] = "people"

    @property
    def count(self) -> int:
        return self.wins + self.losses + self.ties

    def __str__(self) -> str:
        if self.rate is None:
            return "no comparisons"
        by, unit = ("on", "questions") if self.unit == "questions" else ("by", "people")
        units = "" if self.people is None else f" {by} {self.people} {unit}"
        return f"{self.rate:.1%} [{self.low:.1%}, {self.high:.1%}] of {self.count}{units}"


def win_rate(
    outcomes: Iterable[Outcome], alpha: float = 0.05, people: Sequence[str] | None = None, cap: int | None = None
) -> WinRate:
    """Share of wins, ties half, with the confidence sequence at level 1 − alpha.

    Args:
        outcomes: in log order.
        people: who cast each of them. Then the unit is a person: each counts once, with the mean of their votes.
        cap: of each person the first so many votes count; needs `people`.

    Raises:
        ValueError: an unknown outcome, `people` of another length, or a cap below 1 or without people.
    """
    given = list(outcomes)
    if cap is not None and (people is None or cap < 1):
        raise ValueError(f"A cap of {cap} votes per person needs `people` and must be at least 1.")
    by_person: dict[str, list[Outcome]] = defaultdict(list)
    if people is not None:
        for person, outcome in zip(people, given, strict=True):
            if cap is None or len(by_person[person]) < cap:
                by_person[person].append(outcome)
        given = [outcome for votes in by_person.values() for outcome in votes]
    counts = Counter(given)
    if unknown := counts.keys() - SHARES:
        raise ValueError(f"Unknown outcomes {sorted(unknown)}; required are win, loss or tie.")
    wins, losses, ties = counts["win"], counts["loss"], counts["tie"]
    if people is None:
        units, won = len(given), wins + ties / 2
    else:
        units = len(by_person)
        won = math.fsum(math.fsum(SHARES[vote] for vote in votes) / len(votes) for votes in by_person.values())
    low, high = confidence_sequence(won, units - won, alpha)
    voters = None if people is None else units
    return WinRate(wins, losses, ties, won / units if units else None, low, high, voters)


def confidence_sequence(wins: float, losses: float, alpha: float, prior: float = 1.0) -> tuple[float, float]:
    """Interval for a rate, valid at all times at once.

    Keeps every p whose beta-mixture martingale is below 1/alpha:
    B(a + S, a + F) / (B(a, a) · p^S · (1 − p)^F) < 1/alpha, with a Beta(a, a) mixture. Robbins (1970),
    "Statistical methods related to the law of the iterated logarithm"; Ville's inequality. Outcomes between 0 and 1
    (ties, a person's mean) keep it valid: q^x · (1 − q)^(1 − x) is convex in x.

    Args:
        wins, losses: S and F, fractions allowed for ties and means.
        alpha: chance that the interval ever leaves out the true rate.
        prior: a; 1 is the uniform mixture, larger ones are tighter near one half and wider far from it.

    Raises:
        ValueError: a negative or infinite count, or alpha outside (0, 1).
    """
    if not (0 <= wins < math.inf and 0 <= losses < math.inf and 0 < alpha < 1):
        raise ValueError(f"wins {wins}, losses {losses} must be at least 0 and alpha {alpha} between 0 and 1")
    total = wins + losses
    if total == 0:
        return 0.0, 1.0
    log_beta = _log_beta(prior + wins, prior + losses) - _log_beta(prior, prior)
    bound = -math.log(alpha)

    def excess(p: float) -> float:
        return log_beta - wins * math.log(p) - losses * math.log1p(-p) - bound

    tiny = 1e-12
    centre = min(max(wins / total, tiny), 1 - tiny)
    low = _root(excess, tiny, centre) if wins > 0 else 0.0
    high = _root(excess, 1 - tiny, centre) if losses > 0 else 1.0
    return low, high


def _log_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)


def mean_interval(shares: Sequence[float], alpha: float) -> tuple[float, float]:
    """Interval at 1 − alpha for the mean of shares in [0, 1], looked at once: (low, high) within [0, 1].

    Student's interval after one share of 0 and one of 1 are added, so that a few equal shares do not look certain
    (Agresti and Coull 1998 do likewise for a rate). Where shares vary less than votes it is narrower than
    `confidence_sequence`, which must hold at every look. Its error rates are simulated in the tests.

    Raises:
        ValueError: alpha outside (0, 1).
    """
    if not 0 < alpha < 1:
        raise ValueError(f"alpha {alpha} must lie between 0 and 1")
    if not shares:
        return 0.0, 1.0
    padded = np.array([0.0, 1.0, *shares])
    half = student_t(alpha, len(padded) - 1) * float(padded.std(ddof=1)) / math.sqrt(len(padded))
    return max(float(padded.mean()) - half, 0.0), min(float(padded.mean()) + half, 1.0)


@lru_cache(maxsize=256)
def student_t(alpha: float, degrees: int) -> float:
    """The two-sided critical value of Student's t."""
    from scipy.special import stdtrit  # not at the top: sensors import this module, and evaluate nothing

    return -float(stdtrit(degrees, alpha / 2))


def _root(excess: Callable[[float], float], outside: float, inside: float) -> float:
    """Where the p that are left out (excess > 0) end; `outside` where even that is kept."""
    from scipy.optimize import brentq  # not at the top: sensors import this module, and evaluate nothing

    return outside if excess(outside) <= 0 else float(brentq(excess, outside, inside))
