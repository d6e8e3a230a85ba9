"""The KPIs of a week against their targets, and whether they rise or fall."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from dpo_pipeline.core.kpi_names import at_least, below
from dpo_pipeline.core.questions import CATEGORIES
from dpo_pipeline.core.versions import BASELINE
from dpo_pipeline.core.votes import Preference
from dpo_pipeline.settings import Cadence, Kpis

Trend = Literal["rising", "falling", "steady", "unknown"]
STEADY = 0.02


@dataclass(frozen=True)
class Week:
    """What was counted in one week; null: not measured. Sessions are lengths in requests."""

    preferences: int = 0
    by_category: Mapping[str, int] = field(default_factory=dict)
    clear_winners: float | None = None
    quality_score: float | None = None
    satisfaction: float | None = None
    ratings: int = 0
    error_rate: float | None = None
    requests: int = 0
    session_length: float | None = None


@dataclass(frozen=True)
class Kpi:
    """`met` is null where nothing was measured. `alert` says that somebody should look now."""

    name: str
    value: float | None
    target: str
    met: bool | None
    trend: Trend
    alert: bool = False


def coverage(by_category: Mapping[str, int]) -> float:
    """Share of the five categories that hold at least 5 % of the preferences."""
    total = sum(by_category.get(name, 0) for name in CATEGORIES)
    return sum(by_category.get(name, 0) >= 0.05 * total > 0 for name in CATEGORIES) / len(CATEGORIES)


def kpis_of(vote: Preference) -> tuple[str, ...]:
    """The KPIs of a weekly report that count this vote, by name; none for pairs that were brought in or made."""
    if not vote.from_people:
        return ()
    between = {vote.model_a, vote.model_b}
    counted = {
        "preferences_collected": True,
        "category_coverage": vote.category in CATEGORIES,
        "clear_winners": True,
        "quality_score": vote.chosen is not None,
        "win_rate_over_baseline": BASELINE in between and len(between) == 2 and vote.vote != "both_bad",
    }
    return tuple(name for name, counts in counted.items() if counts)


def trend(now: float | None, before: float | None) -> Trend:
    """Changes of 2 % of what it was, or less, are steady."""
    if now is None or before is None:
        return "unknown"
    if abs(now - before) <= STEADY * abs(before):
        return "steady"
    return "rising" if now > before else "falling"


def kpis_of_week(week: Week, before: Week, rates: Sequence[float], cadence: Cadence, targets: Kpis) -> tuple[Kpi, ...]:
    """`rates`: win rates over v1.0 of the versions that were voted on, in order; the last is told, beside the last but
    one."""
    rate_before, rate = [None, None, *rates][-2:]
    errors, satisfaction = week.error_rate, week.satisfaction
    covered = coverage(week.by_category) if week.preferences else None
    lengths = trend(week.session_length, before.session_length)
    liked = trend(satisfaction, before.satisfaction)
    return (
        Kpi(
            "user_satisfaction",
            satisfaction,
            f"above {targets.satisfaction:g} and not falling",
            None if satisfaction is None else satisfaction > targets.satisfaction and liked != "falling",
            liked,
        ),
        _above("win_rate_over_baseline", rate, targets.win_rate, rate_before),
        Kpi(
            "error_rate",
            errors,
            below("error_rate", targets.error_rate),
            None if errors is None else errors < targets.error_rate,
            trend(errors, before.error_rate),
            alert=errors is not None and errors >= targets.error_alert,
        ),
        Kpi(
            "session_length",
            week.session_length,
            "not falling",
            None if lengths == "unknown" else lengths != "falling",
            lengths,
        ),
        _above("preferences_collected", float(week.preferences), cadence.weekly_target, float(before.preferences)),
        _above("category_coverage", covered, 1.0, coverage(before.by_category) if before.preferences else None),
        _above("clear_winners", week.clear_winners, targets.clear_winners, before.clear_winners),
        _above("quality_score", week.quality_score, targets.quality_score, before.quality_score),
    )


def _above(name: str, value: float | None, target: float, before: float | None) -> Kpi:
    return Kpi(name, value, at_least(name, target), None if value is None else value >= target, trend(value, before))
