"""What the loop did for people: the weekly report, and the way of the versions."""

import json
from dataclasses import asdict
from datetime import UTC, datetime, timedelta

import dagster as dg

from dpo_pipeline.assets.collection import requests
from dpo_pipeline.assets.curation import validated_pairs
from dpo_pipeline.assets.partitions import OWNERS, WAREHOUSE_POOL, code_version, data_version, plot, table
from dpo_pipeline.core.report import trajectory, weekly_report
from dpo_pipeline.loop.cadence import next_training
from dpo_pipeline.loop.notify import tell
from dpo_pipeline.loop.report import timeline, version_figures, weeks
from dpo_pipeline.reports.monitoring_page import kpi_row, monitoring_page, satisfaction, version_rows, win_rates
from dpo_pipeline.resources import LoopResource, WarehouseResource
from dpo_pipeline.stores.artifacts import write_text
from dpo_pipeline.stores.tables import publish_rows

WEEKLY = dg.FreshnessPolicy.time_window(fail_window=timedelta(days=8))


@dg.asset(
    group_name="monitoring",
    owners=OWNERS,
    kinds={"html", "json"},
    deps=[validated_pairs, requests],
    pool=WAREHOUSE_POOL,
    code_version=code_version("core.report", "loop.report"),
    freshness_policy=WEEKLY,
    description="The week against its targets: KPIs with trends, the iteration's timeline, alerts, next actions.",
)
def monitoring_report(loop: LoopResource, warehouse: WarehouseResource) -> dg.MaterializeResult:
    settings, now = loop.settings(), datetime.now(UTC)
    with loop.ledger() as ledger, warehouse.open(settings) as store:
        due = next_training(settings, ledger, now)
        frequency = getattr(settings.cadence, due.phase).frequency
        figures = version_figures(settings, ledger, store, now)
        report = weekly_report(
            weeks(settings, store, now), figures, ledger.deployment().champion, due.unused, due.threshold,
            timeline(ledger, store, settings.rollout, frequency), settings.cadence, settings.kpis,
        )  # fmt: skip
    way = trajectory(figures)
    page, told = settings.reports_dir / "weekly.html", json.dumps(report.to_json(), indent=2)
    write_text(page, monitoring_page(report, way, now))
    write_text(page.with_suffix(".json"), told)
    publish_rows(page.with_name("kpis.parquet"), [asdict(kpi) for kpi in report.kpis])
    for kpi in report.alerts:
        tell(settings, f"Alert: {kpi.name}", f"{kpi.value:.3g}, the target is {kpi.target}. See {page}.")
    return dg.MaterializeResult(
        metadata={
            "page": dg.MetadataValue.path(page),
            "kpis": table([kpi_row(kpi) for kpi in report.kpis]),
            "next_actions": table([{"action": action} for action in report.next_actions]),
            "report": dg.MetadataValue.json(report.to_json()),
            "timeline": table([asdict(step) for step in report.timeline]),
            "alerts": len(report.alerts),
        },
        data_version=data_version(told),
    )


@dg.asset(
    group_name="monitoring",
    owners=OWNERS,
    kinds={"parquet"},
    deps=[validated_pairs, requests],
    pool=WAREHOUSE_POOL,
    code_version=code_version("core.report", "loop.report"),
    freshness_policy=WEEKLY,
    description="Satisfaction, win rate over v1.0 and length, version by version, and whether the gains are shrinking.",
)
def improvement_trajectory(loop: LoopResource, warehouse: WarehouseResource) -> dg.MaterializeResult:
    settings, now = loop.settings(), datetime.now(UTC)
    with loop.ledger() as ledger, warehouse.open(settings) as store:
        way = trajectory(version_figures(settings, ledger, store, now))
    rows = version_rows(way)
    publish_rows(settings.reports_dir / "trajectory.parquet", rows)
    return dg.MaterializeResult(
        metadata={
            "finding": way.finding,
            "versions": table(rows),
            "win_rates": plot(win_rates(way), "win rate over v1.0"),
            "satisfaction": plot(satisfaction(way), "satisfaction"),
        },
        data_version=data_version(rows),
    )
