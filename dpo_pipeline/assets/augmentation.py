"""Pairs that no person voted on; off by default."""

import dagster as dg

from dpo_pipeline.assets.partitions import COMPUTE_POOL, OWNERS, code_version, data_version, table
from dpo_pipeline.assets.training import sft_adapter
from dpo_pipeline.core.versions import BASELINE
from dpo_pipeline.loop.recorded_adapter import adapter_folder
from dpo_pipeline.ml.base_model import locate_base
from dpo_pipeline.ml.evaluation import AdapterRef, make_synthetic_pairs
from dpo_pipeline.resources import LoopResource, Models
from dpo_pipeline.settings import Evaluation
from dpo_pipeline.stores.progress import ProgressFile
from dpo_pipeline.stores.synthetic import publish_synthetic

SHOWN = 10


@dg.asset(
    group_name="training",
    owners=OWNERS,
    kinds={"transformers", "jsonl"},
    deps=[sft_adapter],
    pool=COMPUTE_POOL,
    code_version=code_version("core.augmentation"),
    description="Paraphrased questions, answered by champion and v1.0, kept where one is clearly better. Default: off.",
)
def synthetic_pairs(context: dg.AssetExecutionContext, loop: LoopResource, models: Models) -> dg.MaterializeResult:
    settings = loop.settings()
    if not settings.augmentation.enabled:
        return dg.MaterializeResult(
            metadata={"pairs": 0, "why": "augmentation.enabled is off (DPO_AUGMENTATION__ENABLED=true)"},
            data_version=data_version("off"),
        )
    if why := _impossible(settings.evaluation):
        return dg.MaterializeResult(metadata={"pairs": 0, "why": why}, data_version=data_version(why))
    with loop.ledger() as ledger:
        records = [ledger.version(name) for name in (ledger.deployment().champion or BASELINE, BASELINE)]
    first, second = (AdapterRef(str(each.adapter_sha), adapter_folder(settings, each)) for each in records)
    report = ProgressFile(settings.data_dir / "progress", "synthetic")
    pairs = models.call(context, make_synthetic_pairs, settings, locate_base(settings), first, second, report)
    publish_synthetic(settings.synthetic_pairs, pairs)
    shown: list[dict[str, object]] = [
        {"prompt": each.prompt, "chosen": each.chosen, "rejected": each.rejected} for each in pairs[:SHOWN]
    ]
    return dg.MaterializeResult(
        metadata={"pairs": len(pairs), "asked": settings.augmentation.questions, "examples": table(shown)},
        data_version=data_version(*(pair.event_id for pair in pairs)),
    )


def _impossible(evaluation: Evaluation) -> str:
    """Why no pair can be made now; empty where some can."""
    if evaluation.judge == "llm":
        return "the judge `llm` gives verdicts and no scores; DPO_EVALUATION__JUDGE=automatic or reward_model is needed"
    return ""
