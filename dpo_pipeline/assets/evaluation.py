"""Is the candidate better than the version it has to beat."""

from dataclasses import asdict
from pathlib import Path

import dagster as dg

from dpo_pipeline.assets.partitions import COMPUTE_POOL, OWNERS, VERSIONS, data_version, table
from dpo_pipeline.assets.training import trained_adapter
from dpo_pipeline.core.verdict import EvaluationVerdict, evaluate
from dpo_pipeline.core.versions import BASELINE
from dpo_pipeline.ml.base_model import locate_base
from dpo_pipeline.ml.evaluation import Contestant, judge_versions
from dpo_pipeline.resources import LoopResource
from dpo_pipeline.stores.ledger import ACCEPTED, VersionRecord
from dpo_pipeline.stores.progress import ProgressFile


@dg.asset(
    group_name="evaluation",
    owners=OWNERS,
    kinds={"transformers"},
    deps=[trained_adapter],
    partitions_def=VERSIONS,
    pool=COMPUTE_POOL,
    code_version="1",
    check_specs=[
        dg.AssetCheckSpec("improved", asset="eval_report", blocking=True, description="better than the parent")
    ],
    description="Candidate against parent on held-out questions: win rate with interval, by category, length drift.",
)
def eval_report(context: dg.AssetExecutionContext, loop: LoopResource) -> dg.MaterializeResult:
    settings, name = loop.settings(), context.partition_key
    report = ProgressFile(settings.data_dir / "progress", "eval")
    with loop.ledger() as ledger:
        candidate = ledger.version(name)
        parent = ledger.version(candidate.parent or BASELINE)
        answers = judge_versions(settings, locate_base(settings), _contestant(candidate), _contestant(parent), report)
        verdict = evaluate(answers, settings.evaluation)
        fields: dict[str, object] = {"win_rate": verdict.overall.rate, "evaluation": asdict(verdict)}
        if candidate.status not in ACCEPTED:
            fields["status"] = "improved" if verdict.improved else "not_improved"
        ledger.record_version(name, **fields)
    return dg.MaterializeResult(
        metadata={
            "verdict": "improved" if verdict.improved else "not improved",
            "reasons": table([{"reason": reason} for reason in verdict.reasons]),
            "win_rate": verdict.overall.rate,
            "win_rate_low": verdict.overall.low,
            "win_rate_high": verdict.overall.high,
            "by_category": table(_categories(verdict)),
            "length_ratio": verdict.length_ratio,
            "parent": parent.name,
        },
        data_version=data_version(candidate.adapter_sha, parent.adapter_sha, verdict),
        check_results=[
            dg.AssetCheckResult(check_name="improved", passed=verdict.improved, description="; ".join(verdict.reasons))
        ],
    )


def _contestant(record: VersionRecord) -> Contestant:
    return Contestant(str(record.adapter_sha), Path(str(record.adapter_dir)))


def _categories(verdict: EvaluationVerdict) -> list[dict[str, object]]:
    return [{"category": name, "win rate": str(rate)} for name, rate in verdict.by_category.items()]
