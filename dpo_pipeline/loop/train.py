"""Train a version: v1.0 on demonstrations, every later one with DPO on its dataset.

A version that was registered is rebuilt from what is recorded of it, to see that it still can be: nothing is recorded,
and an adapter that differs is refused. Each training has a run in MLflow, which is opened before it begins.
"""

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dpo_pipeline.core.lifecycle import RECORDED, Status
from dpo_pipeline.core.training_curve import kept_points
from dpo_pipeline.core.versions import BASELINE, check_is_later, iteration
from dpo_pipeline.errors import AdapterRefused, ArtifactMissing, DatasetTooSmall, DpoError, TrainingDiverged
from dpo_pipeline.loop.attempts import attempt_of, conclude
from dpo_pipeline.loop.calls import Call, here
from dpo_pipeline.loop.demonstrations import demonstration_rows
from dpo_pipeline.loop.recorded_adapter import adapter_folder, adapter_of
from dpo_pipeline.ml.adapters import differ_only_in_place
from dpo_pipeline.ml.base_model import BaseModel, locate_base
from dpo_pipeline.ml.llamafactory_trainer import find_command
from dpo_pipeline.ml.train_process import ProcessJob, ProcessResult, run
from dpo_pipeline.ml.training_plan import (
    dataset_dir,
    dpo_job,
    sft_job,
    sft_round_job,
    start_version,
    write_llamafactory_config,
)
from dpo_pipeline.settings import DpoRecipe, Settings
from dpo_pipeline.stores import artifacts
from dpo_pipeline.stores.ledger import Ledger, VersionRecord, require_same
from dpo_pipeline.stores.registry import Registry
from dpo_pipeline.stores.shared_artifacts import fetch, share
from dpo_pipeline.stores.training_curves import write_curve
from dpo_pipeline.stores.training_runs import TrainingRun

log = logging.getLogger(__name__)
AFTER_FAILURE: dict[type[DpoError], Status] = {
    TrainingDiverged: Status.DIVERGED,
    AdapterRefused: Status.NOT_IMPROVED,
    DatasetTooSmall: Status.GIVEN_UP,
}
"""What a version is after a training that gave no adapter: another attempt, or, where only votes would help, none."""


@dataclass(frozen=True)
class Trained:
    """A training, and the version as the ledger has it afterwards."""

    record: VersionRecord
    job: ProcessJob
    result: ProcessResult


def train_baseline(
    settings: Settings, ledger: Ledger, registry: Registry, call: Call = here, dagster_run: str = ""
) -> Trained:
    """v1.0, the first champion: an adapter tuned on demonstrations of the bank.

    Raises:
        RebuildDiffers: v1.0 serves or served, and would come out different now; it stays as it is.
        RegistryError: MLflow does not answer or refuses; nothing was trained.
    """
    base = locate_base(settings)
    known = next((record for record in ledger.versions() if record.name == BASELINE), None)
    if known and known.status in RECORDED:
        job = sft_job(settings, base, known.recipe)
        return _rebuild(settings, ledger, known, base, job, call)
    job = sft_job(settings, base)
    ledger.start_training(BASELINE, 1, None, base.sha, job.recipe)
    trained = _train(settings, ledger, registry, job, call, _run_of(BASELINE, 1, dagster_run, job, None))
    artifacts.point(settings.checkpoints_dir / "sft" / "sft-lora", Path(trained.result.adapter_dir))
    ledger.install_champion(BASELINE, actor="sft_adapter")
    return trained


def train(
    settings: Settings,
    ledger: Ledger,
    registry: Registry,
    name: str,
    attempt: int | None = None,
    changed: dict[str, Any] | None = None,
    call: Call = here,
    dagster_run: str = "",
) -> Trained:
    """DPO from the start adapter, which is also the frozen reference, on the version's dataset.

    Args:
        attempt: which training of this version this is, counted from 1; null: the one that is due.
        changed: hyperparameters that differ from the recipe that it is due for, of a registered version its own.

    Raises:
        ArtifactMissing: the version has no dataset; v1.0 never has.
        TrainingDiverged, AdapterRefused, DatasetTooSmall: no adapter; the ledger says what the version is now.
        ForbiddenTransition: the version is past training, and not registered.
        ModelUnavailable: LLaMA-Factory shall train and is not there; nothing was begun.
        RebuildDiffers: it is registered, and would come out different now; it stays as it is.
        RegistryError: MLflow does not answer or refuses; nothing was trained.
    """
    check_is_later(name)
    base, record = locate_base(settings), ledger.version(name)
    if not record.dataset_hash:
        raise ArtifactMissing(f"Version {name} has no dataset yet. Materialize `dpo_dataset` for it first.")
    rebuilt, due = record.status in RECORDED, attempt_of(settings, record)
    # An attempt that was made before is made again by its own recipe.
    known = record.recipe if attempt == record.attempt else None
    recipe = DpoRecipe(**{**(known or due.recipe.model_dump()), **(changed or {})})
    attempt = due.number if attempt is None else attempt
    parent = record.parent if rebuilt and record.parent else ledger.deployment().champion or BASELINE
    start = start_version(ledger.versions(), recipe, parent)
    data = fetch(settings, dataset_dir(settings.artifacts_dir, record.dataset_hash))
    start_dir = adapter_of(settings, start)
    if recipe.trainer == "llamafactory":
        find_command(settings.llamafactory.command)
    if not rebuilt:
        ledger.start_training(name, attempt, parent, base.sha, recipe.model_dump(mode="json"))
    try:
        if recipe.sft_rounds:
            start_dir = _after_sft_round(settings, base, start_dir, data, call)
        job = dpo_job(settings, base, recipe, start_dir, data, {"version": name, "parent": parent})
        if recipe.trainer == "trl":  # the other writes its own
            call(write_llamafactory_config, settings.model, job)
        if rebuilt:
            return _rebuild(settings, ledger, record, base, job, call)
        trained = _train(settings, ledger, registry, job, call, _run_of(name, attempt, dagster_run, job, data))
    except tuple(AFTER_FAILURE) as error:
        # Left in training, it would be trained again, with the same end, and no later version would have its turn.
        if not rebuilt:
            conclude(settings, ledger, ledger.record_failure(name, AFTER_FAILURE[type(error)]))
        raise
    link = settings.checkpoints_dir / "dpo" / f"dpo-iter{iteration(name)}-lora"
    artifacts.point(link, Path(trained.result.adapter_dir))
    return trained


def _train(
    settings: Settings, ledger: Ledger, registry: Registry, job: ProcessJob, call: Call, described: TrainingRun
) -> Trained:
    with registry.training_run(described, Path(job.progress_dir), job.kind) as opened:
        result = _run(job, call)
        share(settings, Path(result.adapter_dir))
        opened.finish(result.adapter_sha, result.metrics, result.curve, result.facts, Path(result.adapter_dir))
    name = described.tags["version"]
    write_curve(settings.reports_dir, name, int(described.tags["attempt"]), kept_points(result.curve))
    metrics = result.metrics or {"demonstrations": result.facts["demonstrations"]}
    record = ledger.record_training(name, result.adapter_sha, result.adapter_dir, metrics, opened.run_id)
    return Trained(record, job, result)


def _rebuild(
    settings: Settings, ledger: Ledger, record: VersionRecord, base: BaseModel, job: ProcessJob, call: Call
) -> Trained:
    require_same(record, "base model", record.base_sha, base.sha)
    result = _run(job, call)
    recorded, built = adapter_folder(settings, record), Path(result.adapter_dir)
    if recorded.is_dir() and result.adapter_sha != record.adapter_sha and differ_only_in_place(recorded, built):
        return Trained(record, job, result)
    ledger.record_training(record.name, result.adapter_sha, result.adapter_dir, {}, None)
    return Trained(record, job, result)


def _run(job: ProcessJob, call: Call) -> ProcessResult:
    """The job is left as a file too, which `ml.train_process` does by hand."""
    job.write(Path(job.work_dir) / "job.json")
    return call(run, job)


def _after_sft_round(settings: Settings, base: BaseModel, start_dir: Path, data: Path, call: Call) -> Path:
    """The start adapter, tuned on what people corrected or preferred."""
    rows = demonstration_rows(settings, data)
    log.info("an SFT round on %d demonstrations first", len(rows))
    return Path(_run(sft_round_job(settings, base, start_dir, rows), call).adapter_dir)


def _run_of(name: str, attempt: int, dagster_run: str, job: ProcessJob, data: Path | None) -> TrainingRun:
    """What is known of a training before it begins."""
    manifest = artifacts.read_manifest(data) if data else None
    return TrainingRun(
        name=name if attempt == 1 else f"{name} attempt {attempt}",
        parameters={**job.recipe, "base_sha": job.base_sha, "start_dir": job.start_dir},
        tags={
            "version": name,
            "attempt": str(attempt),
            "dagster_run_id": dagster_run,
            "base_sha": job.base_sha,
            "dataset_hash": str(manifest["content_hash"] if manifest else job.facts.get("dataset_hash")),
            **({"sources": json.dumps(manifest["sources"])} if manifest and "sources" in manifest else {}),
        },
        dataset_file=data / "train.parquet" if data else None,
        dataset_rows=manifest["pairs"]["train"] if manifest else None,
        dataset_manifest=data / artifacts.MANIFEST if data else None,
    )
