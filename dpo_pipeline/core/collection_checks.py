"""Is what people gave us fit to learn from: coverage, repeats, refusals, position bias."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from dpo_pipeline.core.questions import CATEGORIES


@dataclass(frozen=True)
class Finding:
    """One check's answer. `value` is what was measured."""

    passed: bool
    reason: str
    value: float | None


def category_coverage(valid_by_category: Mapping[str, int], min_share: float = 0.05) -> Finding:
    """Every category holds at least `min_share` of the valid pairs."""
    total = sum(valid_by_category.values())
    if not total:
        return Finding(False, "no valid pair yet", None)
    shares = {name: valid_by_category.get(name, 0) / total for name in CATEGORIES}
    thin = [name for name in CATEGORIES if shares[name] < min_share]
    if thin:
        return Finding(
            False, f"ask more questions of {', '.join(thin)}: each under {min_share:.0%}", min(shares.values())
        )
    return Finding(True, f"every category holds {min_share:.0%} or more", min(shares.values()))


def repeated_votes(repeats: int, recorded: int, max_share: float = 0.05) -> Finding:
    """Few votes repeat an earlier one of the same person on the same pair."""
    if not recorded:
        return Finding(False, "no preference yet", None)
    share = repeats / recorded
    return Finding(share <= max_share, f"{repeats} of {recorded} repeat an earlier vote", share)


def rejected_share(rejected: int, judged: int, failed: Mapping[str, int], max_share: float = 0.8) -> Finding:
    """The criteria leave enough; otherwise which one refuses most."""
    if not judged:
        return Finding(False, "no preference yet", None)
    share = rejected / judged
    most = max(failed, key=lambda name: failed[name], default="none")
    return Finding(share <= max_share, f"{rejected} of {judged} rejected, most for {most}", share)


def position_bias(left_wins: int, decided: int, alpha: float = 0.001) -> Finding:
    """Left wins half of the decided votes, by a two-sided normal test: sides are shuffled."""
    if not decided:
        return Finding(False, "no decided vote yet", None)
    share = left_wins / decided
    z = abs(left_wins - decided / 2) / math.sqrt(decided / 4)
    p_value = math.erfc(z / math.sqrt(2))
    return Finding(p_value >= alpha, f"left won {left_wins} of {decided} (p = {p_value:.3g})", share)
