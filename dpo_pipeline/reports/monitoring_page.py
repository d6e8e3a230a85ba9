"""The weekly report and the way of the versions on one page."""

from collections.abc import Sequence
from zoneinfo import ZoneInfo

from dpo_pipeline.core.calendar import Span
from dpo_pipeline.core.kpi_names import kpi_label, kpi_value
from dpo_pipeline.core.kpis import Kpi
from dpo_pipeline.core.questions import category_label
from dpo_pipeline.core.report import REPORTS, TimelineStep, WeeklyReport, report_of
from dpo_pipeline.core.trajectory import Trajectory
from dpo_pipeline.core.winrate import WinRate
from dpo_pipeline.in_words import hours, spoken
from dpo_pipeline.reports import plots
from dpo_pipeline.reports.page import LIVE, ReportPage

WEEKLY, TRAJECTORY = ((title, report_of(name)) for name, title in REPORTS.items())


def monitoring_page(report: WeeklyReport, way: Trajectory, week: Span, zone: ZoneInfo) -> str:
    """Self-contained HTML."""
    first, last = (f"{moment.astimezone(zone):%d %B %Y, %H:%M}" for moment in (week.begins, week.ends))
    page = ReportPage("The week in the loop", f"{first} to {last} ({zone.key})", [LIVE, TRAJECTORY])
    for kpi in report.alerts:
        page.paragraph(f"Alert: {kpi_label(kpi.name)} is {_number(kpi)}; the target: {kpi.target}.", "verdict bad")
    page.heading("What to do next")
    page.points(report.next_actions)
    page.heading("Against the targets")
    page.table([kpi_row(kpi) for kpi in report.kpis])
    page.heading("Preferences by category")
    by_category = sorted(report.week.by_category.items())
    page.table([{"Category": category_label(name), "Votes": count} for name, count in by_category])
    page.heading("Versions")
    _versions(page, way)
    page.heading("The iteration, planned and real")
    page.paragraph("From its first vote to the beginning of each step.", "sub")
    page.table(timeline_rows(report.timeline))
    return page.html()


def trajectory_page(way: Trajectory) -> str:
    """The versions alone, from the first to the newest, as self-contained HTML."""
    page = ReportPage(REPORTS["trajectory"], "Whether each is better than the first, and by how much.", [LIVE, WEEKLY])
    _versions(page, way)
    return page.html()


def _versions(page: ReportPage, way: Trajectory) -> None:
    page.paragraph(way.finding)
    if any(each.win_rate and each.win_rate.rate is not None for each in way.versions):
        page.figure(
            plots.inline(win_rates(way), plots.rows_in(_rated(way))),
            "Win rate over v1.0 by people's votes; each person counts once.",
        )
    for each in way.versions:
        if each.controlled and each.controlled.count:
            for warning in each.controlled.warnings:
                page.paragraph(f"{each.name} over v1.0: {warning}", "open")
    if any(each.satisfaction is not None for each in way.versions):
        page.figure(plots.inline(satisfaction(way)), "Mean rating of everybody who rated, 1 to 5.")
    page.table(shown_versions(way))


def kpi_row(kpi: Kpi) -> dict[str, object]:
    """As people read it; a value that is there and neither met nor missed lacks the week before."""
    unknown = "not measured" if kpi.value is None else "needs a week to compare with"
    said = {True: "met", False: "missed", None: unknown}[kpi.met]
    trend = None if kpi.trend == "unknown" else kpi.trend
    return {
        "Figure": kpi_label(kpi.name), "Value": _number(kpi), "Target": kpi.target, "Reached": said, "Trend": trend,
    }  # fmt: skip


def timeline_rows(steps: Sequence[TimelineStep]) -> list[dict[str, object]]:
    return [
        {"Step": step.name, "Planned after": _after(step.planned_h), "Began after": _after(step.actual_h)}
        for step in steps
    ]


def _after(begins_h: float | None) -> str | None:
    """Null: not yet."""
    return None if begins_h is None else hours(begins_h)


def shown_versions(way: Trajectory) -> list[dict[str, object]]:
    """The versions as people read them; `version_rows` has them for programs."""
    return [
        {
            "Version": each.name,
            "Status": spoken(each.status),
            "Satisfaction, of 5": each.satisfaction,
            "Ratings": each.ratings,
            "Win rate over v1.0": str(each.win_rate) if each.win_rate else None,
            "At equal length and side": str(each.controlled) if each.controlled else None,
            "Evaluation over its parent": _share(each.evaluation_win_rate),
            "Words per answer": each.words,
        }
        for each in way.versions
    ]


def _share(rate: float | None) -> str | None:
    return None if rate is None else f"{rate:.1%}"


def version_rows(way: Trajectory) -> list[dict[str, object]]:
    return [
        {
            "version": each.name,
            "status": each.status,
            "satisfaction": each.satisfaction,
            "ratings": each.ratings,
            "win rate over v1.0": str(each.win_rate) if each.win_rate else "",
            "at equal length and side": str(each.controlled) if each.controlled else "",
            "evaluation over its parent": each.evaluation_win_rate,
            "words": each.words,
        }
        for each in way.versions
    ]


def win_rates(way: Trajectory) -> plots.Draw:
    return plots.intervals({name: (rate.rate, rate.low, rate.high) for name, rate in _rated(way).items()})


def _rated(way: Trajectory) -> dict[str, WinRate]:
    return {each.name: each.win_rate for each in way.versions if each.win_rate and each.win_rate.count}


def satisfaction(way: Trajectory) -> plots.Draw:
    return plots.versions_line({each.name: each.satisfaction for each in way.versions}, "satisfaction, 1 to 5", 4.0)


def _number(kpi: Kpi) -> str:
    return "–" if kpi.value is None else kpi_value(kpi.name, kpi.value)
