"""Which preferences are good enough to train on, and what the collection as a whole looks like."""

from collections.abc import Iterator

import dagster as dg

from dpo_pipeline.assets.collection import feedback, preferences
from dpo_pipeline.assets.partitions import (
    OWNERS,
    WAREHOUSE_POOL,
    code_version,
    data_version,
    table,
    when_inputs_change,
)
from dpo_pipeline.core import collection_checks as checks
from dpo_pipeline.core.curation import CurationSummary
from dpo_pipeline.core.validated_pair import MEANINGS
from dpo_pipeline.loop.curate import curate
from dpo_pipeline.loop.label import label
from dpo_pipeline.loop.set_aside import find_suspects, set_aside
from dpo_pipeline.resources import LoopResource, WarehouseResource
from dpo_pipeline.stores.curation import read_summary


@dg.asset(
    group_name="curation",
    owners=OWNERS,
    kinds={"duckdb"},
    deps=[preferences],
    pool=WAREHOUSE_POOL,
    code_version=code_version("core.quality", "core.set_aside", "loop.curate"),
    description="The validation result of every preference: valid, or the quality criteria that it fails.",
)
def validated_pairs(
    context: dg.AssetExecutionContext, loop: LoopResource, warehouse: WarehouseResource
) -> dg.MaterializeResult:
    settings = loop.settings()
    with warehouse.open(settings) as store:
        with loop.ledger() as ledger:
            suspects = find_suspects(ledger)
        curated = curate(settings, store, lambda done: context.log.info(f"{done} validated"), suspects)
    summary = curated.summary
    refused = [{"criterion": name, "meaning": MEANINGS[name], "refused": n} for name, n in _most(summary.failed)]
    return dg.MaterializeResult(
        metadata={
            "validated_now": curated.validated_now,
            "valid": summary.valid,
            "rejected": summary.rejected,
            "set_aside_after_a_rollback": summary.set_aside,
            "set_aside_now": curated.set_aside_now,
            "refused_by_criterion": table(refused),
            "second_looks": table(_second_looks(summary)),
            "valid_by_category": table([{"category": c, "pairs": n} for c, n in _most(summary.valid_categories)]),
        },
        data_version=data_version(summary.recorded, summary.valid, summary.rejected, settings.quality),
    )


@dg.asset(
    group_name="curation",
    owners=OWNERS,
    kinds={"json"},
    deps=[feedback, preferences],
    pool=WAREHOUSE_POOL,
    automation_condition=when_inputs_change("20 * * * *"),
    code_version=code_version("core.labels", "core.usable_feedback", "core.feedback", "core.quality", "loop.label"),
    description="What of people's feedback can be trained on: corrections as pairs, thumbs and ratings as labels.",
)
def labelled_answers(loop: LoopResource, warehouse: WarehouseResource) -> dg.MaterializeResult:
    settings = loop.settings()
    with warehouse.open(settings) as store:
        with loop.ledger() as ledger:
            set_aside(settings, store, find_suspects(ledger))
        found = label(settings, store)
    good = sum(answer.good for answer in found.labelled)
    left_out = [
        {"source": source, "reason": reason, "left_out": n}
        for source, reasons in found.left_out.items()
        for reason, n in _most(reasons)
    ]
    return dg.MaterializeResult(
        metadata={
            "pairs": len(found.pairs),
            "good_answers": good,
            "bad_answers": len(found.labelled) - good,
            "by_source": table([{"source": source, "usable": n} for source, n in _most(found.sources)]),
            "left_out": table(left_out),
        },
        data_version=data_version(found.sources, found.left_out, settings.quality, settings.collection.feedback_shares),
    )


@dg.multi_asset_check(
    specs=[
        dg.AssetCheckSpec("category_coverage", asset=validated_pairs, description="every category is represented"),
        dg.AssetCheckSpec("duplicates", asset=validated_pairs, description="few votes repeat an earlier one"),
        dg.AssetCheckSpec("rejected_share", asset=validated_pairs, description="the criteria leave enough pairs"),
        dg.AssetCheckSpec("position_bias", asset=validated_pairs, description="left and right win alike"),
    ],
)
def collection_health(loop: LoopResource) -> Iterator[dg.AssetCheckResult]:
    summary = read_summary(loop.settings().curation_summary)
    for name, finding in _findings(summary).items():
        yield dg.AssetCheckResult(
            check_name=name,
            asset_key=validated_pairs.key,
            passed=finding.passed,
            severity=dg.AssetCheckSeverity.WARN,
            description=finding.reason,
            metadata={"limit": finding.limit, **({} if finding.value is None else {"value": finding.value})},
        )


def _findings(summary: CurationSummary) -> dict[str, checks.Finding]:
    decided = summary.votes.get("a", 0) + summary.votes.get("b", 0)
    validated = summary.valid + summary.rejected
    return {
        "category_coverage": checks.category_coverage(summary.valid_categories),
        "duplicates": checks.repeated_votes(summary.failed.get("repeat", 0), summary.recorded),
        "rejected_share": checks.rejected_share(summary.rejected, validated, summary.failed),
        "position_bias": checks.position_bias(summary.left_wins, decided),
    }


def _second_looks(summary: CurationSummary) -> list[dict[str, object]]:
    return [
        {"pairs": "decided twice by one person", "count": summary.decided_twice, "finding": _flips(summary)},
        {
            "pairs": "decided by several people",
            "count": summary.decided_by_several,
            "finding": "too few" if summary.alpha is None else f"Krippendorff's alpha {summary.alpha:.2f}",
        },
    ]


def _flips(summary: CurationSummary) -> str:
    return "too few" if summary.flip_rate is None else f"{summary.flip_rate:.0%} of votes are the wrong way round"


def _most(counts: dict[str, int]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda item: -item[1])
