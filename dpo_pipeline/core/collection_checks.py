"""Is what people gave us fit to learn from: coverage, repeats, refusals, position bias."""

from collections.abc import Mapping
from dataclasses import dataclass

from dpo_pipeline.core.questions import CATEGORIES
from dpo_pipeline.core.winrate import confidence_sequence


@dataclass(frozen=True)
class Finding:
    """One check's answer. `value` is what was measured, null before there is anything; `limit` what it must keep."""

    passed: bool
    reason: str
    value: float | None
    limit: str


def category_coverage(valid_by_category: Mapping[str, int], min_share: float = 0.05) -> Finding:
    """Each of the five categories holds at least `min_share` of the valid pairs in them."""
    total, limit = sum(valid_by_category.get(name, 0) for name in CATEGORIES), f"at least {min_share}"
    if not total:
        return Finding(False, "no valid pair in one of the five categories yet", None, limit)
    shares = {name: valid_by_category.get(name, 0) / total for name in CATEGORIES}
    thin = [name for name in CATEGORIES if shares[name] < min_share]
    if thin:
        told = f"ask more questions of {', '.join(thin)}: each under {min_share:.0%}"
        return Finding(False, told, min(shares.values()), limit)
    return Finding(True, f"every category holds {min_share:.0%} or more", min(shares.values()), limit)


def repeated_votes(repeats: int, recorded: int, max_share: float = 0.05) -> Finding:
    """Few votes repeat an earlier one of the same person on the same pair."""
    limit = f"at most {max_share}"
    if not recorded:
        return Finding(False, "no preference yet", None, limit)
    share = repeats / recorded
    return Finding(share <= max_share, f"{repeats} of {recorded} repeat an earlier vote", share, limit)


def rejected_share(rejected: int, judged: int, failed: Mapping[str, int], max_share: float = 0.8) -> Finding:
    """The criteria leave enough; otherwise which one refuses most."""
    limit = f"at most {max_share}"
    if not judged:
        return Finding(False, "no preference yet", None, limit)
    share = rejected / judged
    most = max(failed, key=lambda name: failed[name], default="none")
    return Finding(share <= max_share, f"{rejected} of {judged} rejected, most for {most}", share, limit)


def position_bias(left_wins: int, decided: int, alpha: float = 0.001) -> Finding:
    """Left wins half of the decided votes, as far as an interval can tell that is looked at after every run."""
    limit = f"0.5 within its interval, at an error rate of {alpha}"
    if not decided:
        return Finding(False, "no decided vote yet", None, limit)
    low, high = confidence_sequence(left_wins, decided - left_wins, alpha)
    said = f"left won {left_wins} of {decided} [{low:.1%}, {high:.1%}]"
    return Finding(low <= 0.5 <= high, said, left_wins / decided, limit)
