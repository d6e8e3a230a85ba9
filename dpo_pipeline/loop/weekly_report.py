"""The week against its targets, and the trajectory of the versions: counted, written, and alerts sent."""

import json
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

from dpo_pipeline.core.calendar import ended_weeks, weeks_so_far
from dpo_pipeline.core.kpi_names import kpi_label, kpi_value
from dpo_pipeline.core.report import WeeklyReport, report_of, weekly_report
from dpo_pipeline.core.trajectory import Trajectory, trajectory
from dpo_pipeline.loop.cadence import next_training
from dpo_pipeline.loop.notify import tell
from dpo_pipeline.loop.report import timeline, version_figures, weeks
from dpo_pipeline.reports.monitoring_page import monitoring_page, trajectory_page, version_rows
from dpo_pipeline.settings import Settings
from dpo_pipeline.stores.artifacts import write_text
from dpo_pipeline.stores.curation import read_labels, read_summary
from dpo_pipeline.stores.ledger import Ledger
from dpo_pipeline.stores.tables import publish_rows
from dpo_pipeline.stores.warehouse import Warehouse


@dataclass(frozen=True)
class WrittenReport:
    """The report, its page, and the same as JSON."""

    report: WeeklyReport
    page: Path
    json: str


def write_weekly_report(
    settings: Settings, ledger: Ledger, store: Warehouse, now: datetime, ended: bool = False
) -> WrittenReport:
    """Of the week so far, or of the one that `ended` last; a KPI that needs somebody at once is sent as an alert."""
    spans = (ended_weeks if ended else weeks_so_far)(now, settings.zone, 2)
    due = next_training(settings, ledger, now)
    frequency = getattr(settings.cadence, due.phase).frequency
    figures = version_figures(settings, ledger, store, now)
    report = weekly_report(
        weeks(settings.serving_log_dir, store, spans), figures, ledger.deployment().champion, due.unused, due.threshold,
        timeline(ledger, store, settings.rollout, frequency), settings.cadence, settings.kpis,
        read_summary(settings.curation_summary).set_aside + read_labels(settings.label_summary).set_aside,
    )  # fmt: skip
    page, text = settings.report_page("weekly"), json.dumps(report.to_json(), indent=2)
    write_text(page, monitoring_page(report, trajectory(figures), spans[0], settings.zone))
    write_text(page.with_suffix(".json"), text)
    publish_rows(page.with_name("kpis.parquet"), [asdict(kpi) for kpi in report.kpis])
    where = settings.page_address(report_of("weekly")) or page
    for kpi in report.alerts:
        value = "not measured" if kpi.value is None else kpi_value(kpi.name, kpi.value)
        tell(settings, f"Alert: {kpi_label(kpi.name)}", f"{value}; the target: {kpi.target}. See {where}.")
    return WrittenReport(report, page, text)


def publish_trajectory(
    settings: Settings, ledger: Ledger, store: Warehouse, now: datetime
) -> tuple[Trajectory, list[dict[str, object]]]:
    """Written as a page and as a table; returns it and the rows of the table."""
    found = trajectory(version_figures(settings, ledger, store, now))
    rows = version_rows(found)
    write_text(settings.report_page("trajectory"), trajectory_page(found))
    publish_rows(settings.reports_dir / "trajectory.parquet", rows)
    return found, rows
