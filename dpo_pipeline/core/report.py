"""The weekly report and the way of the versions, as values: KPIs against targets, trends, and what to do next in words.

Counting belongs to `loop.report`, pages to `reports`, sending to `loop.notify`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal

from dpo_pipeline.core.controlled_winrate import ControlledWinRate
from dpo_pipeline.core.kpi_names import at_least, below
from dpo_pipeline.core.questions import CATEGORIES, category_label
from dpo_pipeline.core.versions import BASELINE
from dpo_pipeline.core.votes import Preference
from dpo_pipeline.core.winrate import WinRate
from dpo_pipeline.settings import Cadence, Kpis

Trend = Literal["rising", "falling", "steady", "unknown"]
REPORTS = {"weekly": "The weekly report", "trajectory": "The trajectory of the versions"}
"""Reports that are pages of serving, by the name in their address."""
STEADY = 0.02
DIMINISHING = 0.5


def report_of(name: str) -> str:
    """Where a report is, below the address of serving."""
    return f"/reports/{name}"


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
class VersionFigures:
    """One version as people met it. `win_rate` is over v1.0 by votes, `controlled` the same for equal lengths and
    sides; lengths in words."""

    name: str
    status: str
    satisfaction: float | None = None
    ratings: int = 0
    win_rate: WinRate | None = None
    controlled: ControlledWinRate | None = None
    words: float | None = None
    parent_words: float | None = None
    evaluation_win_rate: float | None = None


@dataclass(frozen=True)
class Kpi:
    """`met` is null where nothing was measured. `alert` says that somebody should look now."""

    name: str
    value: float | None
    target: str
    met: bool | None
    trend: Trend
    alert: bool = False


@dataclass(frozen=True)
class TimelineStep:
    """A part of the iteration: planned and real beginning, in hours from its first vote; null: not yet."""

    name: str
    planned_h: float
    actual_h: float | None


@dataclass(frozen=True)
class WeeklyReport:
    kpis: tuple[Kpi, ...]
    week: Week
    target: int
    comparison: Mapping[str, VersionFigures]
    timeline: tuple[TimelineStep, ...]
    next_actions: tuple[str, ...]

    @property
    def alerts(self) -> tuple[Kpi, ...]:
        return tuple(kpi for kpi in self.kpis if kpi.alert)

    def to_json(self) -> dict[str, Any]:
        """With the user's own keys."""
        week = self.week
        return {
            "preferences_collected": week.preferences,
            "target": self.target,
            "progress": round(week.preferences / self.target, 3),
            "model_comparison": {name: _compared(figures) for name, figures in self.comparison.items()},
            "data_quality": {
                "clear_winners": week.clear_winners,
                "category_coverage": coverage(week.by_category),
                "avg_quality_score": week.quality_score,
            },
            "next_actions": list(self.next_actions),
        }


@dataclass(frozen=True)
class Trajectory:
    """Versions in order, and whether the gains are getting smaller."""

    versions: tuple[VersionFigures, ...]
    gains: tuple[float, ...]
    finding: str


def weekly_report(
    weeks: Sequence[Week],
    versions: Sequence[VersionFigures],
    champion: str | None,
    unused: int,
    threshold: int,
    timeline: Sequence[TimelineStep],
    cadence: Cadence,
    kpis: Kpis,
    set_aside: int = 0,
) -> WeeklyReport:
    """This week against the targets and the week before.

    Args:
        weeks: this week first, then the one before, where there is one.
        versions: every version, in order.
        unused, threshold: valid pairs towards the next training.
        set_aside: pairs and judgements that a rollback put in question.
    """
    week, before = weeks[0], weeks[1] if len(weeks) > 1 else Week()
    newest = versions[-1] if len(versions) > 1 else None
    rates = [each.win_rate.rate for each in versions if each.win_rate and each.win_rate.rate is not None]
    comparison = {f"{each.name}_vs_v1.0": each for each in versions if each.name != "v1.0"}
    return WeeklyReport(
        kpis=_kpis(week, before, rates, cadence, kpis),
        week=week,
        target=cadence.weekly_target,
        comparison=comparison,
        timeline=tuple(timeline),
        next_actions=(
            *_next_actions(week, newest, champion, unused, threshold, cadence, kpis),
            *(
                [f"Review the {set_aside} pairs and judgements that a rollback put in question (criterion: set aside)"]
                if set_aside
                else []
            ),
        ),
    )


def trajectory(versions: Sequence[VersionFigures]) -> Trajectory:
    """Win rates over v1.0 in order of versions, what each added, and diminishing returns by name."""
    known = [each for each in versions if each.win_rate and each.win_rate.rate is not None]
    rates = [0.5] + [float(each.win_rate.rate or 0.0) for each in known if each.win_rate]
    gains = tuple(round(after - before, 4) for before, after in pairwise(rates))
    if len(gains) < 2:
        return Trajectory(tuple(versions), gains, "Too few versions have votes against v1.0 to show a trend.")
    first, last = gains[0], gains[-1]
    if last <= 0:
        found = f"{known[-1].name} added nothing over {known[-2].name}: collect other categories or change the recipe."
    elif last < DIMINISHING * first:
        found = f"Diminishing returns: {known[-1].name} added {last:.1%}, {known[0].name} had added {first:.1%}."
    else:
        found = f"Still improving: {known[-1].name} added {last:.1%}."
    return Trajectory(tuple(versions), gains, found)


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


def _kpis(week: Week, before: Week, rates: Sequence[float], cadence: Cadence, targets: Kpis) -> tuple[Kpi, ...]:
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


def _next_actions(
    week: Week,
    newest: VersionFigures | None,
    champion: str | None,
    unused: int,
    threshold: int,
    cadence: Cadence,
    kpis: Kpis,
) -> tuple[str, ...]:
    actions = []
    if unused < threshold:
        actions.append(f"Continue collecting ({threshold - unused} more preferences)")
    else:
        actions.append(f"Train the next version ({unused} unused preferences; the sensor starts it)")
    if week.preferences < cadence.weekly_minimum:
        short = cadence.weekly_minimum - week.preferences
        actions.append(f"Invite people to a batch testing session ({short} votes below this week's minimum)")
    total = sum(week.by_category.get(name, 0) for name in CATEGORIES)
    thin = [name for name in CATEGORIES if total and week.by_category.get(name, 0) < 0.05 * total]
    if thin:
        actions.append(f"Ask more questions of the categories {', '.join(map(category_label, thin))}")
    if week.error_rate is not None and week.error_rate >= kpis.error_alert:
        actions.append(f"Look at errors: {week.error_rate:.1%} of this week's requests failed")
    if week.clear_winners is not None and week.clear_winners < kpis.clear_winners:
        actions.append("Compare versions that differ more: too many votes are ties")
    if newest and newest.status == "rolling_out":
        actions.append(f"Vote on {newest.name} against {champion}: its A/B test or rollout is under way")
    if newest and newest.status == "given_up":
        actions.append(f"Read why {newest.name} was given up (its page says it) before the next training")
    return tuple(actions)


def _compared(figures: VersionFigures) -> dict[str, Any]:
    rate = figures.win_rate
    return {
        "win_rate": rate.rate if rate else None,
        "user_preference": str(rate) if rate else "no votes yet",
        "avg_length": figures.words,
    }
