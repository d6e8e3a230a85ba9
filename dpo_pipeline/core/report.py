"""The weekly report and the way of the versions, as values: KPIs against targets, trends, and what to do next in words.

Counting belongs to `loop.report`, pages to `reports`, sending to `loop.notify`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dpo_pipeline.core.kpis import Kpi, Week, coverage, kpis_of_week
from dpo_pipeline.core.questions import CATEGORIES, category_label
from dpo_pipeline.core.trajectory import VersionFigures
from dpo_pipeline.settings import Cadence, Kpis

REPORTS = {"weekly": "The weekly report", "trajectory": "The trajectory of the versions"}
"""Reports that are pages of serving, by the name in their address."""


def report_of(name: str) -> str:
    """Where a report is, below the address of serving."""
    return f"/reports/{name}"


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
        kpis=kpis_of_week(week, before, rates, cadence, kpis),
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
