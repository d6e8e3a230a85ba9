"""Is the candidate better than the version it has to beat."""

from dataclasses import asdict
from pathlib import Path

import dagster as dg

from dpo_pipeline.assets.curation import validated_pairs
from dpo_pipeline.assets.partitions import COMPUTE_POOL, OWNERS, VERSIONS, WAREHOUSE_POOL, data_version, plot, table
from dpo_pipeline.assets.training import trained_adapter
from dpo_pipeline.core.diagnosis import diagnose
from dpo_pipeline.core.lifecycle import RECORDED
from dpo_pipeline.core.standings import scored
from dpo_pipeline.core.verdict import EvaluationVerdict, evaluate
from dpo_pipeline.core.versions import BASELINE
from dpo_pipeline.loop.describe import card_facts, describe
from dpo_pipeline.loop.report import battles
from dpo_pipeline.loop.symptoms import symptoms
from dpo_pipeline.ml.base_model import locate_base
from dpo_pipeline.ml.evaluation import Contestant, exam, judge_versions
from dpo_pipeline.ml.training_plan import dataset_dir
from dpo_pipeline.reports.evaluation_page import evaluation_page, win_rates
from dpo_pipeline.resources import LoopResource, Models, WarehouseResource
from dpo_pipeline.settings import DpoRecipe, Settings
from dpo_pipeline.stores.artifacts import write_text
from dpo_pipeline.stores.ledger import VersionRecord, utc_now
from dpo_pipeline.stores.progress import ProgressFile
from dpo_pipeline.stores.tables import publish_rows


@dg.asset(
    group_name="evaluation",
    owners=OWNERS,
    kinds={"transformers"},
    deps=[trained_adapter],
    partitions_def=VERSIONS,
    pool=COMPUTE_POOL,
    code_version="3",
    check_specs=[
        dg.AssetCheckSpec("improved", asset="eval_report", blocking=True, description="better than the parent")
    ],
    description="Candidate against parent on held-out questions: win rate with interval, raw and at equal lengths, by "
    "category, safety, drift, and how far the judge agrees with people.",
)
def eval_report(
    context: dg.AssetExecutionContext, loop: LoopResource, models: dg.ResourceParam[Models]
) -> dg.MaterializeResult:
    settings, name = loop.settings(), context.partition_key
    report, begun_at = ProgressFile(settings.data_dir / "progress", "eval"), utc_now()
    with loop.ledger() as ledger:
        candidate = ledger.version(name)
        parent = ledger.version(candidate.parent or BASELINE)
        asked = exam(settings, dataset_dir(settings, candidate.dataset_hash) if candidate.dataset_hash else None)
        both, base = (_contestant(candidate), _contestant(parent)), locate_base(settings)
        first = None if parent.name == BASELINE else _contestant(ledger.version(BASELINE))
        answers, measured = models.call(context, judge_versions, settings, base, *both, asked, report, None, first)
        verdict = evaluate(answers, settings.evaluation, measured, settings.cadence.max_attempts)
        evaluation = asdict(verdict) | {"begun_at": begun_at}
        fields: dict[str, object] = {"win_rate": verdict.overall.rate, "evaluation": evaluation}
        if candidate.status not in RECORDED:
            fields["status"] = verdict.verdict
        candidate = ledger.record_version(name, **fields)
        shown = symptoms(settings, candidate)
    diagnosis = None if verdict.improved else diagnose(DpoRecipe(**(candidate.recipe or {})), shown)
    page = _page_path(settings, candidate)
    embedded = settings.model.base == "embedded"
    write_text(page, evaluation_page(name, parent.name, verdict, answers, diagnosis, embedded))
    if candidate.mlflow_run:
        loop.registry().log_evaluation(candidate.mlflow_run, page, asdict(verdict), _figures(verdict))
        with loop.ledger() as ledger:
            # How long its answers are was measured too.
            describe(loop.registry(), parent, card_facts(settings, ledger, parent.name))
    return dg.MaterializeResult(
        metadata={
            "verdict": verdict.verdict,
            "reasons": table([{"reason": reason} for reason in verdict.reasons]),
            "page": dg.MetadataValue.path(page),
            "win_rates": plot(win_rates(verdict), "win rate over the parent"),
            "by_category": table(_categories(verdict)),
            "parent": parent.name,
            **_figures(verdict),
            **({} if diagnosis is None else {"diagnosis": table(diagnosis.rows()), "next": diagnosis.conclusion}),
        },
        data_version=data_version(candidate.adapter_sha, parent.adapter_sha, verdict),
        check_results=[
            dg.AssetCheckResult(
                check_name="improved",
                passed=verdict.improved,
                description="; ".join(verdict.reasons),
                metadata=_figures(verdict),
            )
        ],
    )


@dg.asset(
    group_name="evaluation",
    owners=OWNERS,
    kinds={"duckdb"},
    deps=[validated_pairs],
    pool=WAREHOUSE_POOL,
    code_version="1",
    description="Bradley-Terry scores of all versions by people's votes, with intervals, and votes per pair.",
)
def leaderboard(loop: LoopResource, warehouse: WarehouseResource) -> dg.MaterializeResult:
    settings = loop.settings()
    with warehouse.open(settings) as store:
        counts = battles(store, settings.rollout.votes_per_person)
    found = scored(counts)
    rows = [
        {"version": s.name, "score": round(s.elo[0]), "low": round(s.elo[1]), "high": round(s.elo[2]), "votes": s.votes}
        for s in (found.board.strengths.values() if found.board else ())
    ]
    publish_rows(settings.reports_dir / "leaderboard.parquet", rows)
    return dg.MaterializeResult(
        metadata={
            "scores": table(rows),
            "pairs": table([asdict(pair) for pair in counts]),
            "trouble": found.trouble or "none",
        },
        data_version=data_version(counts),
    )


def _contestant(record: VersionRecord) -> Contestant:
    return Contestant(str(record.adapter_sha), Path(str(record.adapter_dir)))


def _page_path(settings: Settings, record: VersionRecord) -> Path:
    return settings.reports_dir / "evaluation" / f"{record.name}-attempt{record.attempt}.html"


def _figures(verdict: EvaluationVerdict) -> dict[str, float]:
    """The numbers of a verdict, flat: what Dagster and MLflow draw over versions."""
    drift, safety, trust = verdict.measured.drift, verdict.measured.safety, verdict.measured.trust
    found: dict[str, float | None] = {
        "win_rate": verdict.overall.rate,
        "win_rate_low": verdict.overall.low,
        "win_rate_high": verdict.overall.high,
        "win_rate_at_equal_lengths": verdict.controlled,
        "length_ratio": verdict.length_ratio,
        "kl_per_token": drift.kl_per_token if drift else None,
        "chosen_shift": drift.chosen_shift if drift else None,
        "declined": safety.declined if safety else None,
        "judge_agrees_with_people": trust.share if trust else None,
    }
    return {name: value for name, value in found.items() if value is not None}


def _categories(verdict: EvaluationVerdict) -> list[dict[str, object]]:
    rates = {**verdict.by_category, **{f"{k} (informs)": v for k, v in verdict.by_origin.items() if k != "bank"}}
    return [{"questions": name, "win rate": str(rate)} for name, rate in rates.items()]
