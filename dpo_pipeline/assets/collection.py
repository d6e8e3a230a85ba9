"""What people gave us, from the append-only log into the warehouse."""

from dataclasses import asdict

import dagster as dg

from dpo_pipeline.assets.partitions import (
    OWNERS,
    WAREHOUSE_POOL,
    code_version,
    data_version,
    table,
    when_inputs_change,
)
from dpo_pipeline.assets.sources import serving_log, vote_log, votes_seen
from dpo_pipeline.loop.feedback_table import write_feedback
from dpo_pipeline.loop.ingest import ingest
from dpo_pipeline.loop.report import days
from dpo_pipeline.resources import LoopResource, WarehouseResource
from dpo_pipeline.stores.log import file_bytes
from dpo_pipeline.stores.tables import publish_rows


@dg.asset(
    group_name="collection",
    owners=OWNERS,
    kinds={"jsonl", "duckdb"},
    deps=[vote_log],
    pool=WAREHOUSE_POOL,
    code_version=code_version("loop.ingest", "core.votes", "stores.decode"),
    description="Votes from `prefs.jsonl`, a row per event; lines that are no events go to quarantine with the reason.",
)
def preferences(
    context: dg.AssetExecutionContext, loop: LoopResource, warehouse: WarehouseResource
) -> dg.MaterializeResult:
    settings = loop.settings()
    context.log_event(votes_seen(file_bytes(settings.prefs_log), file_bytes(settings.reviews_log)))
    with warehouse.open(settings) as store:
        report = ingest(store, settings.quarantine_log, settings.collection.max_line_bytes, settings.quality)
        tallies = store.tallies()
    context.log.info(f"{report.recorded} new, {report.repeats} repeated, {report.quarantined} quarantined")
    return dg.MaterializeResult(
        metadata={
            "recorded": tallies.get("recorded", 0),
            "new": report.recorded,
            "repeated_events": report.repeats,
            "quarantined": tallies.get("quarantined", 0),
            "quarantined_now": table([{"reason": why, "lines": n} for why, n in report.reasons.items()]),
            "log_offset_bytes": report.end.offset,
        },
        data_version=data_version(report.end.offset, tallies.get("recorded", 0)),
    )


@dg.asset(
    group_name="collection",
    owners=OWNERS,
    kinds={"jsonl", "parquet"},
    deps=[serving_log],
    automation_condition=when_inputs_change("10 * * * *"),
    code_version=code_version("core.feedback", "core.serving_records", "loop.feedback_table", "stores.serving_log"),
    description="What people said of chat answers and did with them, a row per event; a newer one stands beside it.",
)
def feedback(loop: LoopResource) -> dg.MaterializeResult:
    settings = loop.settings()
    counts = write_feedback(settings.serving_log_dir, settings.feedback_table)
    return dg.MaterializeResult(
        metadata={
            "events": sum(counts.values()),
            "by_signal": table([{"signal": signal, "events": n} for signal, n in counts.most_common()]),
            "file": dg.MetadataValue.path(settings.feedback_table),
        },
        data_version=data_version(sorted(counts.items())),
    )


@dg.asset(
    group_name="collection",
    owners=OWNERS,
    kinds={"jsonl", "parquet"},
    deps=[serving_log],
    automation_condition=when_inputs_change("10 * * * *"),
    code_version=code_version("core.serving_records", "core.version_metrics", "loop.report", "stores.serving_log"),
    description="The serving log, a row for each day and version: requests, errors, latency, ratings.",
)
def requests(loop: LoopResource) -> dg.MaterializeResult:
    settings = loop.settings()
    rows = [asdict(day) for day in days(settings.serving_log_dir)]
    publish_rows(settings.reports_dir / "requests.parquet", rows)
    return dg.MaterializeResult(
        metadata={"days": table(rows[-14:]), "requests": sum(int(row["requests"]) for row in rows)},
        data_version=data_version(rows),
    )
