"""Win rate with an interval that stays valid however often one looks.

Ties count half to each side. One person's votes are capped before they come here or with
`cap_per_person`; sixty votes of one person are not sixty people.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

Outcome = Literal["win", "loss", "tie"]


@dataclass(frozen=True)
class WinRate:
    """`rate` is null where nobody voted: no data is not fifty per cent."""

    wins: int
    losses: int
    ties: int
    rate: float | None
    low: float
    high: float

    @property
    def count(self) -> int:
        return self.wins + self.losses + self.ties

    def __str__(self) -> str:
        if self.rate is None:
            return "no comparisons"
        return f"{self.rate:.1%} [{self.low:.1%}, {self.high:.1%}] of {self.count}"


def win_rate(outcomes: Iterable[Outcome], alpha: float = 0.05) -> WinRate:
    """Share of wins, ties half, with the confidence sequence at level 1 − alpha."""
    counts = Counter(outcomes)
    wins, losses, ties = counts["win"], counts["loss"], counts["tie"]
    total = wins + losses + ties
    low, high = confidence_sequence(wins + ties / 2, losses + ties / 2, alpha)
    return WinRate(wins, losses, ties, (wins + ties / 2) / total if total else None, low, high)


def confidence_sequence(wins: float, losses: float, alpha: float) -> tuple[float, float]:
    """Interval for a Bernoulli rate, valid at all times at once.

    Keeps every p whose beta-mixture martingale is below 1/alpha:
    B(1 + S, 1 + F) / (p^S · (1 − p)^F) < 1/alpha, with the uniform mixture. Robbins (1970),
    "Statistical methods related to the law of the iterated logarithm"; Ville's inequality.

    Args:
        wins, losses: S and F, halves allowed for ties.
        alpha: chance that the interval ever leaves out the true rate.
    """
    if wins < 0 or losses < 0 or not 0 < alpha < 1:
        raise ValueError(f"wins {wins}, losses {losses} must be at least 0 and alpha {alpha} between 0 and 1")
    total = wins + losses
    if total == 0:
        return 0.0, 1.0
    log_beta = math.lgamma(1 + wins) + math.lgamma(1 + losses) - math.lgamma(2 + total)
    bound = -math.log(alpha)

    def excess(p: float) -> float:
        return log_beta - wins * math.log(p) - losses * math.log1p(-p) - bound

    centre = wins / total
    tiny = 1e-12
    low = _root(excess, tiny, centre) if wins > 0 else 0.0
    high = _root(excess, 1 - tiny, centre) if losses > 0 else 1.0
    return low, high


def cap_per_person(votes: Sequence[tuple[str, Outcome]], cap: int) -> list[Outcome]:
    """The outcomes, of each person the first `cap` at most; `votes` holds (annotator, outcome) in log order."""
    seen: Counter[str] = Counter()
    kept = []
    for person, outcome in votes:
        seen[person] += 1
        if seen[person] <= cap:
            kept.append(outcome)
    return kept


def _root(excess: Callable[[float], float], outside: float, inside: float) -> float:
    """Bisection between a p that is left out (excess > 0) and one that is kept."""
    if excess(outside) <= 0:
        return outside
    for _ in range(80):
        middle = (outside + inside) / 2
        if excess(middle) > 0:
            outside = middle
        else:
            inside = middle
    return inside
