"""From a base model and valid pairs to the adapter of a version."""

from pathlib import Path
from typing import Any

import dagster as dg
from pydantic import Field

from dpo_pipeline.assets.curation import validated_pairs
from dpo_pipeline.assets.partitions import COMPUTE_POOL, OWNERS, VERSIONS, WAREHOUSE_POOL, data_version, table
from dpo_pipeline.core.augmentation import mixed
from dpo_pipeline.core.dataset import split_pairs
from dpo_pipeline.core.lifecycle import ACCEPTED, RECORDED
from dpo_pipeline.core.versions import BASELINE, iteration
from dpo_pipeline.errors import AdapterRefused, ArtifactMissing, DatasetTooSmall, TrainingDiverged
from dpo_pipeline.loop.demonstrations import demonstration_rows
from dpo_pipeline.ml.base_model import ensure_base, locate_base
from dpo_pipeline.ml.train_process import ProcessJob, ProcessResult, run
from dpo_pipeline.ml.training_plan import (
    dataset_dir,
    dpo_job,
    sft_job,
    sft_round_job,
    start_version,
    write_dataset,
    write_llamafactory_config,
)
from dpo_pipeline.resources import LoopResource, Models, WarehouseResource
from dpo_pipeline.settings import DpoRecipe, Settings
from dpo_pipeline.stores import artifacts
from dpo_pipeline.stores.bank import held_out_prompts, held_out_texts
from dpo_pipeline.stores.ledger import Ledger
from dpo_pipeline.stores.progress import ProgressFile
from dpo_pipeline.stores.registry import TrainingRun
from dpo_pipeline.stores.reviews import apply_reviews
from dpo_pipeline.stores.synthetic import read_synthetic

# Dagster's config refuses a null within a map.
NULL = "null"
# What a version is after a training that gave no adapter: another attempt, or, where only votes would help, none.
AFTER_FAILURE = {TrainingDiverged: "diverged", AdapterRefused: "not_improved", DatasetTooSmall: "given_up"}


class TrainingConfig(dg.Config):
    """What can be set in the launchpad. The defaults train with the recipe of the settings."""

    attempt: int = Field(1, description="which training of this version this is, counted from 1")
    recipe: dict[str, Any] = Field(
        {}, description="hyperparameters that differ from the settings' recipe; 'null': none"
    )

    def changed(self) -> dict[str, Any]:
        """The hyperparameters that differ, as `DpoRecipe` takes them."""
        return {name: None if value == NULL else value for name, value in self.recipe.items()}


@dg.asset(
    group_name="training",
    owners=OWNERS,
    kinds={"huggingface"},
    pool=COMPUTE_POOL,
    code_version="1",
    description="The one base model under all versions: built from the question bank, or any local or hub model.",
)
def base_model(
    context: dg.AssetExecutionContext, loop: LoopResource, models: dg.ResourceParam[Models]
) -> dg.MaterializeResult:
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
    kinds={"trl", "peft"},
    deps=[base_model],
    pool=COMPUTE_POOL,
    code_version="1",
    description="v1.0: the adapter tuned on demonstrations, and the first champion.",
)
def sft_adapter(
    context: dg.AssetExecutionContext, loop: LoopResource, models: dg.ResourceParam[Models]
) -> dg.MaterializeResult:
    settings = loop.settings()
    base = locate_base(settings)
    job = sft_job(settings, base)
    result = _train(context, models, job)
    artifacts.point(settings.checkpoints_dir / "sft" / "sft-lora", Path(result.adapter_dir))
    run_id = loop.registry().log_training(_training_run(BASELINE, 1, context.run.run_id, job, result, None))
    with loop.ledger() as ledger:
        ledger.record_version(
            BASELINE,
            status="trained",
            adapter_sha=result.adapter_sha,
            adapter_dir=result.adapter_dir,
            base_sha=base.sha,
            recipe=job.recipe,
            training_metrics={"demonstrations": result.facts["demonstrations"]},
            mlflow_run=run_id,
        )
        ledger.install_champion(BASELINE, actor="sft_adapter")
    return dg.MaterializeResult(
        metadata={
            "adapter": dg.MetadataValue.path(result.adapter_dir),
            "sha256": result.adapter_sha,
            "mlflow_run": dg.MetadataValue.url(loop.registry().run_url(run_id)),
            "demonstrations": result.facts["demonstrations"],
            "final_loss": result.facts["final_loss"],
        },
        data_version=data_version(result.adapter_sha),
    )


@dg.asset(
    group_name="training",
    owners=OWNERS,
    kinds={"parquet"},
    deps=[validated_pairs, dg.AssetDep("synthetic_pairs")],
    partitions_def=VERSIONS,
    pool=WAREHOUSE_POOL,
    code_version="1",
    description="The pairs of one version: prompt-disjoint train and eval split, pinned by content hash.",
)
def dpo_dataset(
    context: dg.AssetExecutionContext, loop: LoopResource, warehouse: WarehouseResource
) -> dg.MaterializeResult:
    settings, name = loop.settings(), context.partition_key
    with loop.ledger() as ledger, warehouse.open(settings) as store:
        after, up_to = _range(ledger, name, store.tally("valid"), settings.recipe)
        # A pair that a person excluded a moment ago must not be trained on.
        apply_reviews(store, settings.reviews_log, settings.review_table)
        pairs = store.valid_pairs(after, up_to)
        split = split_pairs(
            pairs, held_out_prompts(settings), settings.evaluation.eval_share, settings.recipe.batch_size
        )
        if settings.augmentation.enabled:
            synthetic = read_synthetic(settings.synthetic_pairs)
            split = mixed(split, synthetic, settings.augmentation.max_share, held_out_texts(settings))
        directory = write_dataset(settings, split)
        ledger.record_version(name, dataset_hash=split.content_hash, pairs=len(split.train), pairs_seen=up_to)
    return dg.MaterializeResult(
        metadata={
            "directory": dg.MetadataValue.path(directory),
            "content_hash": split.content_hash,
            "train_pairs": len(split.train),
            "synthetic_pairs": sum(pair.source == "synthetic" for pair in split.train),
            "eval_pairs": len(split.eval),
            "left_out": table([{"reason": why, "pairs": n} for why, n in split.left_out.items()]),
            "first_valid_pair": after,
            "behind_last_valid_pair": up_to,
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
    code_version="1",
    description="The LoRA adapter of one version: DPO from the start adapter, which is also the frozen reference.",
)
def trained_adapter(
    context: dg.AssetExecutionContext, config: TrainingConfig, loop: LoopResource, models: dg.ResourceParam[Models]
) -> dg.MaterializeResult:
    settings, name = loop.settings(), context.partition_key
    with loop.ledger() as ledger:
        job = _plan(context, models, settings, ledger, config)
        models.call(context, write_llamafactory_config, settings, job)
        try:
            result = _train(context, models, job)
        except tuple(AFTER_FAILURE) as error:
            # Left in training, it would be trained again, with the same end, and no later version would have its turn.
            if ledger.version(name).status not in RECORDED:
                ledger.record_version(name, status=AFTER_FAILURE[type(error)])
            raise
        run = _training_run(name, config.attempt, context.run.run_id, job, result, Path(job.dataset_dir))
        run_id = loop.registry().log_training(run)
        _record_training(ledger, name, result, run_id)
    artifacts.point(settings.checkpoints_dir / "dpo" / f"dpo-iter{iteration(name)}-lora", Path(result.adapter_dir))
    return dg.MaterializeResult(
        metadata={
            "adapter": dg.MetadataValue.path(result.adapter_dir),
            "sha256": result.adapter_sha,
            "mlflow_run": dg.MetadataValue.url(loop.registry().run_url(run_id)),
            "attempt": config.attempt,
            "recipe": dg.MetadataValue.json(job.recipe),
            "loss": table(_thin(result.curve)),
            "held_out_pairs": dg.MetadataValue.json(result.metrics),
            "resumed_from_step": result.facts["resumed_from_step"],
        },
        data_version=data_version(result.adapter_sha),
    )


def _range(ledger: Ledger, name: str, valid_now: int, recipe: DpoRecipe) -> tuple[int, int]:
    """Which valid pairs this version trains on, by position; pinned once it was first materialized."""
    versions = ledger.versions()
    own = next((record for record in versions if record.name == name), None)
    up_to = own.pairs_seen if own and own.pairs_seen else valid_now
    earlier = [v.pairs_seen for v in versions if v.status in ACCEPTED and iteration(v.name) < iteration(name)]
    return (max(earlier, default=0) if recipe.pairs == "new" else 0), up_to


def _plan(
    context: dg.AssetExecutionContext,
    models: Models,
    settings: Settings,
    ledger: Ledger,
    config: TrainingConfig,
) -> ProcessJob:
    """Record the version as in training, and say what the process shall do; an SFT round is trained here and now.

    A version that was registered before is rebuilt from its recorded recipe and parent instead.
    """
    name, base = context.partition_key, locate_base(settings)
    record = ledger.version(name)
    if not record.dataset_hash:
        raise ArtifactMissing(f"Version {name} has no dataset yet. Materialize `dpo_dataset` for it first.")
    rebuilt = record.status in RECORDED
    defaults = record.recipe if rebuilt and record.recipe else settings.recipe.model_dump()
    recipe = DpoRecipe(**{**defaults, **config.changed()})
    parent = record.parent if rebuilt and record.parent else ledger.deployment().champion or BASELINE
    start = start_version(ledger.versions(), recipe, parent)
    if not rebuilt:
        ledger.record_version(
            name,
            status="training",
            attempt=config.attempt,
            parent=parent,
            base_sha=base.sha,
            recipe=recipe.model_dump(mode="json"),
            win_rate=None,
            evaluation=None,
            training_metrics=None,
        )
    data, start_dir = dataset_dir(settings, record.dataset_hash), Path(str(start.adapter_dir))
    if recipe.sft_rounds:
        rows = demonstration_rows(settings.serving_log_dir, data, held_out_prompts(settings))
        context.log.info(f"an SFT round on {len(rows)} demonstrations first")
        start_dir = Path(_train(context, models, sft_round_job(settings, base, start_dir, rows)).adapter_dir)
    return dpo_job(settings, base, recipe, start_dir, data, {"version": name, "parent": parent})


def _record_training(ledger: Ledger, name: str, result: ProcessResult, run_id: str) -> None:
    """
    Raises:
        AdapterRefused: an accepted version was rebuilt and came out different.
    """
    record = ledger.version(name)
    if record.status not in RECORDED:
        ledger.record_version(
            name,
            status="trained",
            adapter_sha=result.adapter_sha,
            adapter_dir=result.adapter_dir,
            mlflow_run=run_id,
            training_metrics=result.metrics,
        )
    elif record.adapter_sha != result.adapter_sha:
        raise AdapterRefused(
            f"{name} was accepted with adapter {str(record.adapter_sha)[:12]}; rebuilding it gave "
            f"{result.adapter_sha[:12]}. The accepted one stays. Train the next version to change what is served."
        )


def _train(context: dg.AssetExecutionContext, models: Models, job: ProcessJob) -> ProcessResult:
    """Train beside this process. The job is left as a file too, which `ml.train_process` does by hand."""
    job.write(Path(job.work_dir) / "job.json")
    return models.call(context, run, job)


def _training_run(
    name: str, attempt: int, dagster_run: str, job: ProcessJob, result: ProcessResult, data: Path | None
) -> TrainingRun:
    dataset_hash = result.facts.get("dataset_hash")
    return TrainingRun(
        name=name if attempt == 1 else f"{name} attempt {attempt}",
        parameters={**job.recipe, "base_sha": job.base_sha, "start_dir": job.start_dir},
        metrics=result.metrics,
        curve=result.curve,
        tags={
            "version": name,
            "attempt": str(attempt),
            "adapter_sha": result.adapter_sha,
            "dagster_run_id": dagster_run,
            "base_sha": job.base_sha,
            "dataset_hash": str(dataset_hash),
            "reference_sha": str(result.facts.get("reference_sha")),
        },
        dataset_file=data / "train.parquet" if data else None,
        dataset_hash=dataset_hash,
        dataset_rows=artifacts.read_manifest(data)["pairs"]["train"] if data else None,
        artifacts={"adapter": Path(result.adapter_dir)} | ({"dataset": data / "manifest.json"} if data else {}),
    )


def _thin(curve: list[dict[str, float]], rows: int = 12) -> list[dict[str, object]]:
    """At most about `rows` points of the loss curve, the last one among them."""
    step = max(len(curve) // rows, 1)
    kept = curve[::-step][::-1]
    names = ("step", "loss", "rewards/margins", "rewards/accuracies")
    return [{name: f"{row[name]:.4g}" for name in names if name in row} for row in kept]
