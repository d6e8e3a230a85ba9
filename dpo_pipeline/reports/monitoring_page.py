"""The weekly report and the way of the versions on one page."""

from zoneinfo import ZoneInfo

from dpo_pipeline.core.calendar import Span
from dpo_pipeline.core.report import REPORTS, Kpi, Trajectory, WeeklyReport, report_of
from dpo_pipeline.reports import plots
from dpo_pipeline.reports.page import LIVE, ReportPage

WEEKLY, TRAJECTORY = ((title, report_of(name)) for name, title in REPORTS.items())


def monitoring_page(report: WeeklyReport, way: Trajectory, week: Span, zone: ZoneInfo) -> str:
    """Self-contained HTML."""
    first, last = (f"{moment.astimezone(zone):%d %B %Y, %H:%M}" for moment in (week.begins, week.ends))
    page = ReportPage("The week in the loop", f"{first} to {last} ({zone.key})", [LIVE, TRAJECTORY])
    for kpi in report.alerts:
        page.paragraph(f"Alert: {kpi.name} is {_number(kpi)}, the target is {kpi.target}", "verdict bad")
    page.heading("What to do next")
    page.points(report.next_actions)
    page.heading("Against the targets")
    page.table([kpi_row(kpi) for kpi in report.kpis])
    page.heading("Preferences by category")
    page.table([{"category": name, "votes": count} for name, count in sorted(report.week.by_category.items())])
    page.heading("Versions")
    _versions(page, way)
    page.heading("The iteration, planned and real")
    page.table(
        [{"step": step.name, "planned, h": step.planned_h, "began, h": step.actual_h} for step in report.timeline]
    )
    return page.html()


def trajectory_page(way: Trajectory) -> str:
    """The versions alone, from the first to the newest, as self-contained HTML."""
    page = ReportPage(REPORTS["trajectory"], "whether each is better than the first, and by how much", [LIVE, WEEKLY])
    _versions(page, way)
    return page.html()


def _versions(page: ReportPage, way: Trajectory) -> None:
    page.paragraph(way.finding)
    if any(each.win_rate and each.win_rate.rate is not None for each in way.versions):
        page.figure(plots.inline(win_rates(way)), "Win rate over v1.0 by people's votes; each person counts once.")
    for each in way.versions:
        if each.controlled and each.controlled.count:
            for warning in each.controlled.warnings:
                page.paragraph(f"{each.name} over v1.0: {warning}", "open")
    if any(each.satisfaction is not None for each in way.versions):
        page.figure(plots.inline(satisfaction(way)), "Mean rating of everybody who rated, 1 to 5.")
    page.table(version_rows(way))


def kpi_row(kpi: Kpi) -> dict[str, object]:
    said = {True: "met", False: "missed", None: "not measured"}[kpi.met]
    return {"KPI": kpi.name, "value": kpi.value, "target": kpi.target, "": said, "trend": kpi.trend}


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
    rated = {each.name: each.win_rate for each in way.versions if each.win_rate and each.win_rate.count}
    return plots.intervals({name: (rate.rate, rate.low, rate.high) for name, rate in rated.items()})


def satisfaction(way: Trajectory) -> plots.Draw:
    return plots.versions_line({each.name: each.satisfaction for each in way.versions}, "satisfaction, 1 to 5", 4.0)


def _number(kpi: Kpi) -> str:
    return "not measured" if kpi.value is None else f"{kpi.value:.3g}"
