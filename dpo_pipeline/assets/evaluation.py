"""Is the candidate better than the version it has to beat."""

from dataclasses import asdict
from functools import partial

import dagster as dg

from dpo_pipeline.assets.curation import validated_pairs
from dpo_pipeline.assets.partitions import (
    COMPUTE_POOL,
    OWNERS,
    VERSIONS,
    WAREHOUSE_POOL,
    code_version,
    data_version,
    page,
    plot,
    table,
    when_inputs_change,
)
from dpo_pipeline.assets.training import trained_adapter
from dpo_pipeline.core.verdict import EvaluationVerdict
from dpo_pipeline.core.versions import page_of
from dpo_pipeline.loop.evaluate import evaluate_version, figures
from dpo_pipeline.loop.leaderboard import publish_leaderboard
from dpo_pipeline.reports.evaluation_page import win_rates
from dpo_pipeline.resources import LoopResource, Models, WarehouseResource


@dg.asset(
    group_name="evaluation",
    owners=OWNERS,
    kinds={"transformers"},
    deps=[trained_adapter],
    partitions_def=VERSIONS,
    pool=COMPUTE_POOL,
    code_version=code_version(
        "core.verdict",
        "core.judging",
        "core.demonstration_formats",
        "ml.eval_set",
        "ml.evaluation",
        "loop.evaluate",
        "stores.bank",
    ),
    check_specs=[
        dg.AssetCheckSpec("improved", asset="eval_report", blocking=True, description="better than the parent")
    ],
    description="Candidate against parent on held-out questions: win rate with interval, raw and at equal lengths, by "
    "category, safety, drift, and how far the judge agrees with people.",
)
def eval_report(context: dg.AssetExecutionContext, loop: LoopResource, models: Models) -> dg.MaterializeResult:
    settings, name = loop.settings(), context.partition_key
    with loop.ledger() as ledger:
        found = evaluate_version(settings, ledger, loop.registry(), name, partial(models.call, context))
    verdict, diagnosis = found.verdict, found.diagnosis
    if not found.recorded:
        context.log.warning(f"{found.candidate.name} was accepted on an earlier evaluation, which stays; this is shown")
    return dg.MaterializeResult(
        metadata={
            "verdict": verdict.verdict,
            "reasons": table([{"reason": reason} for reason in verdict.reasons]),
            "page": page(settings, page_of(found.candidate.name), found.page),
            "win_rates": plot(win_rates(verdict), "win rate over the parent"),
            "by_category": table(_categories(verdict)),
            "parent": found.parent.name,
            **figures(verdict),
            **({} if diagnosis is None else {"diagnosis": table(diagnosis.rows()), "next": diagnosis.conclusion}),
        },
        data_version=data_version(found.candidate.adapter_sha, found.parent.adapter_sha, verdict),
        check_results=[
            dg.AssetCheckResult(
                check_name="improved",
                passed=verdict.improved,
                description="; ".join(verdict.reasons),
                metadata={
                    "partition": name,
                    "value": verdict.overall.rate,
                    "limit": f"at least {settings.evaluation.min_win_rate}, and its interval above 0.5",
                    **figures(verdict),
                },
            )
        ],
    )


@dg.asset(
    group_name="evaluation",
    owners=OWNERS,
    kinds={"duckdb"},
    deps=[validated_pairs],
    automation_condition=when_inputs_change("*/10 * * * *"),
    pool=WAREHOUSE_POOL,
    code_version=code_version(
        "core.leaderboard.battles",
        "core.leaderboard.strengths",
        "core.leaderboard.standings",
        "core.leaderboard.style",
        "loop.leaderboard",
    ),
    description="Bradley-Terry scores of all versions by people's votes, with intervals, and votes per pair.",
)
def leaderboard(loop: LoopResource, warehouse: WarehouseResource) -> dg.MaterializeResult:
    settings = loop.settings()
    with warehouse.open(settings) as store:
        published = publish_leaderboard(settings, store)
    return dg.MaterializeResult(
        metadata={
            "scores": table(published.rows),
            "pairs": table([asdict(pair) for pair in published.pairs]),
            "trouble": published.standings.trouble or "none",
        },
        data_version=data_version(published.pairs),
    )


def _categories(verdict: EvaluationVerdict) -> list[dict[str, object]]:
    rates = {**verdict.by_category, **{f"{k} (informs)": v for k, v in verdict.by_origin.items() if k != "bank"}}
    return [{"questions": name, "win rate": str(rate)} for name, rate in rates.items()]
