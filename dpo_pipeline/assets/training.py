"""From a base model and valid pairs to the adapter of a version."""

from typing import Any

import dagster as dg

from dpo_pipeline.assets.curation import labelled_answers, validated_pairs
from dpo_pipeline.assets.partitions import (
    COMPUTE_POOL,
    OWNERS,
    VERSIONS,
    WAREHOUSE_POOL,
    code_version,
    data_version,
    table,
)
from dpo_pipeline.assets.training_config import TrainingConfig
from dpo_pipeline.loop.build_dataset import build_dataset
from dpo_pipeline.loop.train import Trained, train, train_baseline
from dpo_pipeline.ml.base_model import ensure_base
from dpo_pipeline.resources import LoopResource, Models, WarehouseResource
from dpo_pipeline.stores.progress import ProgressFile


@dg.asset(
    group_name="training",
    owners=OWNERS,
    kinds={"huggingface"},
    pool=COMPUTE_POOL,
    code_version=code_version("ml.base_identity", "ml.base_model", "ml.embedded"),
    description="The one base model under all versions: built from the question bank, or any local or hub model.",
)
def base_model(context: dg.AssetExecutionContext, loop: LoopResource, models: Models) -> dg.MaterializeResult:
    settings = loop.settings()
    report = ProgressFile(settings.data_dir / "progress", "base_model")
    base = models.call(context, ensure_base, settings, report)
    return dg.MaterializeResult(
        metadata={"directory": dg.MetadataValue.path(base.directory), "sha256": base.sha},
        data_version=data_version(base.sha),
    )


@dg.asset(
    group_name="training",
    owners=OWNERS,
    kinds={"trl", "peft", "mlflow"},
    deps=[base_model],
    pool=COMPUTE_POOL,
    code_version=code_version("ml.sft", "loop.train"),
    description="v1.0: the adapter tuned on demonstrations, and the first champion.",
)
def sft_adapter(context: dg.AssetExecutionContext, loop: LoopResource, models: Models) -> dg.MaterializeResult:
    with loop.ledger() as ledger:
        call = models.training_call(context, loop.settings())
        trained = train_baseline(loop.settings(), ledger, loop.registry(), call, context.run.run_id)
    return dg.MaterializeResult(
        metadata={
            **_trained(loop, trained),
            "demonstrations": trained.result.facts["demonstrations"],
            "final_loss": trained.result.facts["final_loss"],
        },
        data_version=data_version(trained.result.adapter_sha),
    )


@dg.asset(
    group_name="training",
    owners=OWNERS,
    kinds={"parquet"},
    deps=[validated_pairs, labelled_answers, dg.AssetDep("synthetic_pairs")],
    partitions_def=VERSIONS,
    pool=WAREHOUSE_POOL,
    code_version=code_version(
        "core.augmentation", "core.dataset", "core.labels", "core.usable_feedback", "loop.label", "loop.build_dataset"
    ),
    description="The pairs of one version: prompt-disjoint train and eval split, pinned by content hash.",
)
def dpo_dataset(
    context: dg.AssetExecutionContext, loop: LoopResource, warehouse: WarehouseResource
) -> dg.MaterializeResult:
    settings = loop.settings()
    with loop.ledger() as ledger, warehouse.open(settings) as store:
        built = build_dataset(settings, ledger, store, context.partition_key)
    split = built.split
    return dg.MaterializeResult(
        metadata={
            "directory": dg.MetadataValue.path(built.directory),
            "content_hash": split.content_hash,
            "train_pairs": len(split.train),
            "labelled_answers": len(split.labelled),
            "by_source": table([{"source": source, "rows": n} for source, n in split.sources.items()]),
            "eval_pairs": len(split.eval),
            "left_out": table([{"reason": why, "left_out": n} for why, n in split.left_out.items()]),
            "first_valid_pair": built.after,
            "behind_last_valid_pair": built.up_to,
        },
        data_version=data_version(split.content_hash),
    )


@dg.asset(
    group_name="training",
    owners=OWNERS,
    kinds={"trl", "peft", "mlflow"},
    deps=[dpo_dataset, sft_adapter],
    partitions_def=VERSIONS,
    pool=COMPUTE_POOL,
    code_version=code_version(
        "ml.checkpoints",
        "ml.dpo",
        "ml.kto",
        "ml.llamafactory",
        "ml.llamafactory_trainer",
        "ml.lm_head",
        "ml.shared_prompts",
        "ml.training_job",
        "loop.train",
    ),
    description="The LoRA adapter of one version: DPO or KTO from the start adapter, the frozen reference.",
)
def trained_adapter(
    context: dg.AssetExecutionContext, config: TrainingConfig, loop: LoopResource, models: Models
) -> dg.MaterializeResult:
    settings, name, changed = loop.settings(), context.partition_key, config.changed()
    with loop.ledger() as ledger:
        call = models.training_call(context, settings)
        trained = train(settings, ledger, loop.registry(), name, config.attempt, changed, call, context.run.run_id)
    result = trained.result
    return dg.MaterializeResult(
        metadata={
            **_trained(loop, trained),
            "attempt": trained.record.attempt,
            "recipe": dg.MetadataValue.json(trained.job.recipe),
            "loss": table(_thin(result.curve)),
            "held_out_pairs": dg.MetadataValue.json(result.metrics),
            "resumed_from_step": result.facts["resumed_from_step"],
        },
        data_version=data_version(result.adapter_sha),
    )


def _trained(loop: LoopResource, trained: Trained) -> dict[str, Any]:
    """What v1.0 and later versions show alike."""
    run = trained.record.mlflow_run
    return {
        "adapter": dg.MetadataValue.path(trained.result.adapter_dir),
        "sha256": trained.result.adapter_sha,
        **({"mlflow_run": dg.MetadataValue.url(loop.registry().run_url(run))} if run else {}),
    }


def _thin(curve: list[dict[str, float]], rows: int = 12) -> list[dict[str, object]]:
    """At most about `rows` points of the loss curve, the last one among them."""
    step = max(len(curve) // rows, 1)
    kept = curve[::-step][::-1]
    names = ("step", "loss", "rewards/margins", "rewards/accuracies")
    return [{name: f"{row[name]:.4g}" for name in names if name in row} for row in kept]
