"""What the loop did for people: the weekly report, and the trajectory of the versions."""

from datetime import UTC, datetime, timedelta
from typing import Literal

import dagster as dg
from pydantic import Field

from dpo_pipeline.assets.collection import requests
from dpo_pipeline.assets.curation import validated_pairs
from dpo_pipeline.assets.partitions import OWNERS, WAREHOUSE_POOL, code_version, data_version, page, plot, table
from dpo_pipeline.core.report import report_of
from dpo_pipeline.loop.weekly_report import publish_trajectory, write_weekly_report
from dpo_pipeline.reports.monitoring_page import kpi_row, satisfaction, shown_versions, timeline_rows, win_rates
from dpo_pipeline.resources import LoopResource, WarehouseResource

WEEKLY = dg.FreshnessPolicy.time_window(fail_window=timedelta(days=8))


class ReportConfig(dg.Config):
    """Which week is reported. By hand it is the week so far; the schedule reports on Mondays the week that ended."""

    week: Literal["so far", "ended"] = Field(
        "so far", description="so far: from Monday until now; ended: the whole week before"
    )


# Both are written from the same figures, by the same code.
CODE_VERSION = code_version(
    "core.kpis",
    "core.report",
    "core.trajectory",
    "core.kpi_names",
    "loop.report",
    "loop.weekly_report",
    "reports.monitoring_page",
)


@dg.asset(
    group_name="monitoring",
    owners=OWNERS,
    kinds={"html", "json"},
    deps=[validated_pairs, requests],
    pool=WAREHOUSE_POOL,
    code_version=CODE_VERSION,
    freshness_policy=WEEKLY,
    description="The week against its targets: KPIs with trends, the iteration's timeline, alerts, next actions.",
)
def monitoring_report(config: ReportConfig, loop: LoopResource, warehouse: WarehouseResource) -> dg.MaterializeResult:
    settings = loop.settings()
    with loop.ledger() as ledger, warehouse.open(settings) as store:
        written = write_weekly_report(settings, ledger, store, datetime.now(UTC), config.week == "ended")
    report = written.report
    return dg.MaterializeResult(
        metadata={
            "page": page(settings, report_of("weekly"), written.page),
            "kpis": table([kpi_row(kpi) for kpi in report.kpis]),
            "next_actions": table([{"action": action} for action in report.next_actions]),
            "report": dg.MetadataValue.json(report.to_json()),
            "timeline": table(timeline_rows(report.timeline)),
            "alerts": len(report.alerts),
        },
        data_version=data_version(written.json),
    )


@dg.asset(
    group_name="monitoring",
    owners=OWNERS,
    kinds={"html", "parquet"},
    deps=[validated_pairs, requests],
    pool=WAREHOUSE_POOL,
    code_version=CODE_VERSION,
    freshness_policy=WEEKLY,
    description="Satisfaction, win rate over v1.0 and length, version by version, and whether the gains are shrinking.",
)
def improvement_trajectory(loop: LoopResource, warehouse: WarehouseResource) -> dg.MaterializeResult:
    settings = loop.settings()
    with loop.ledger() as ledger, warehouse.open(settings) as store:
        found, rows = publish_trajectory(settings, ledger, store, datetime.now(UTC))
    return dg.MaterializeResult(
        metadata={
            "finding": found.finding,
            "page": page(settings, report_of("trajectory"), settings.report_page("trajectory")),
            "versions": table(shown_versions(found)),
            "win_rates": plot(win_rates(found), "win rate over v1.0"),
            "satisfaction": plot(satisfaction(found), "satisfaction"),
        },
        data_version=data_version(rows),
    )
