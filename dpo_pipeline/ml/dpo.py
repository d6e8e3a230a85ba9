"""DPO training of one adapter: TRL and PEFT, resumable, with the reference it was asked to have.

The reference is the adapter that training starts from, frozen, never by accident the bare base
model: TRL copies the adapter that a `PeftModel` comes with. Its log-probabilities are computed once
and cached by dataset and reference.
"""

import hashlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dpo_pipeline.errors import DatasetTooSmall
from dpo_pipeline.machine import memory_bytes
from dpo_pipeline.ml.adapters import WEIGHTS, check_weights, save_adapter, to_train_on
from dpo_pipeline.ml.base_model import load_model
from dpo_pipeline.ml.chat_template import ChatTemplate, as_messages
from dpo_pipeline.ml.checkpoints import last_complete_checkpoint, seal_checkpoints
from dpo_pipeline.ml.compute import compute_of, goes_row_by_row, keeps_row, recomputes
from dpo_pipeline.ml.embedded import Progress
from dpo_pipeline.ml.processes import first_then_others, is_first, share_of, wait_for_all, world_size
from dpo_pipeline.ml.reference import cached_reference_trainer, check_reference
from dpo_pipeline.ml.reporting import LOGGED_SHARE, progress_callback, quieten
from dpo_pipeline.ml.training_job import DpoJob, UsablePairs, usable_pairs


@dataclass(frozen=True)
class DpoResult:
    """`curve` has one row a logged step; `metrics` is the evaluation on the held-out pairs at the end."""

    facts: dict[str, Any]
    metrics: dict[str, float]
    curve: list[dict[str, float]]


def train_dpo(job: DpoJob, adapter_dir: Path, progress: Progress) -> DpoResult:
    """Train, check and save the adapter into `adapter_dir` (without TRL's frozen copy of the reference).

    Raises:
        DatasetTooSmall: fewer usable pairs than one batch.
        TrainingDiverged: the loss is not a number.
        AdapterRefused: the start is on another base, or the result is not finite or not changed.
    """
    pairs = usable_pairs(job)
    trainer = _trainer(job, pairs, pairs.train)
    resume = resume_and_train(trainer, job, progress)
    metrics = _evaluated(trainer)
    curve = [row for row in trainer.state.log_history if "loss" in row]
    save_adapter(trainer.model, adapter_dir)
    return DpoResult(facts_of(job, pairs, adapter_dir, resume), metrics, curve)


def resume_and_train(trainer: Any, job: DpoJob, progress: Progress) -> Path | None:
    """Train to the end, with checkpoints that can be told whole; returns the one that it went on from."""
    trainer.add_callback(progress_callback(progress))
    trainer.add_callback(seal_checkpoints())
    with first_then_others():  # of which the first deletes what is broken
        resume = last_complete_checkpoint(job.work_dir / "checkpoints")
    trainer.train(resume_from_checkpoint=str(resume) if resume else None)
    return resume


def facts_of(job: DpoJob, pairs: UsablePairs, adapter_dir: Path, resumed_from: Path | None) -> dict[str, Any]:
    """What a manifest says of a trained adapter.

    Raises:
        AdapterRefused, TrainingDiverged: it is not finite, or not changed.
    """
    return {
        "kind": "adapter",
        "base_sha": job.base.sha,
        "reference_sha": pairs.reference_sha,
        "dataset_hash": pairs.dataset_hash,
        "recipe": job.recipe.model_dump(mode="json"),
        "pairs": len(pairs.train),
        "left_out": dict(pairs.left_out),
        "resumed_from_step": int(resumed_from.name.removeprefix("checkpoint-")) if resumed_from else 0,
        **check_weights(adapter_dir, job.start_dir),
    }


def held_out_metrics(job: DpoJob, pairs: UsablePairs, adapter_dir: Path) -> dict[str, float]:
    """Those of `DpoResult`, for an adapter that another trainer made of the same start."""
    from peft import set_peft_model_state_dict
    from safetensors.torch import load_file

    trainer = _trainer(job, pairs, pairs.held.select([0]))  # it trains on nothing
    set_peft_model_state_dict(trainer.model, load_file(adapter_dir / WEIGHTS))
    return _evaluated(trainer)


def _evaluated(trainer: Any) -> dict[str, float]:
    return {name.removeprefix("eval_"): float(value) for name, value in trainer.evaluate().items() if name != "epoch"}


def _trainer(job: DpoJob, pairs: UsablePairs, train: Any) -> Any:
    """A TRL trainer on `train`, with reference log-probabilities computed."""
    model, tokenizer = load_model(job.base.directory, job.model), pairs.tokenizer
    template, held = ChatTemplate(tokenizer), pairs.held
    # Of the rows as they are trained on, which the template and what it cannot take have shaped.
    rows = hashlib.sha256(json.dumps([train.to_list(), held.to_list()]).encode()).hexdigest()
    which = f"{pairs.dataset_hash[:16]}-{pairs.reference_sha[:16]}-{job.model.max_length}-{rows[:16]}"
    policy = to_train_on(model, job.start_dir, job.base.directory)
    policy.create_or_update_model_card = lambda output_dir: None  # see `create_model_card`
    trainer = cached_reference_trainer(job.reference_cache / which)(
        model=policy,
        args=_arguments(job, len(train), model),
        train_dataset=_shared(train, job.work_dir / "rows" / "train"),
        eval_dataset=_shared(held, job.work_dir / "rows" / "held"),
        processing_class=tokenizer,
    )
    quieten(trainer)
    if len(trainer.train_dataset) != len(train):
        raise DatasetTooSmall(
            f"TRL kept {len(trainer.train_dataset)} of {len(train)} training pairs after the filter for "
            f"{job.model.max_length} tokens; all of them were required. Raise model.max_length."
        )
    template.check_context(
        (as_messages(row["prompt"]), made["prompt_ids"]) for row, made in zip(train, trainer.train_dataset, strict=True)
    )
    check_reference(policy)
    # Its log-probabilities are in the dataset now; without it no checkpoint carries a second adapter.
    policy.delete_adapter("ref")
    return trainer


def _shared(rows: Any, folder: Path) -> Any:
    """The same rows where each of several processes finds what another one has computed of them."""
    from datasets import load_from_disk

    from dpo_pipeline.ml.trl_rows import trl_rows

    if world_size() == 1:
        return trl_rows(rows)
    if is_first():
        shutil.rmtree(folder, ignore_errors=True)
        rows.save_to_disk(str(folder))
    wait_for_all()
    return load_from_disk(str(folder))


def _arguments(job: DpoJob, pairs: int, model: Any) -> Any:
    from trl import DPOConfig

    recipe, compute = job.recipe, compute_of(job.model)
    if goes_row_by_row(model, compute):
        recomputed = not keeps_row(model, 2 * job.model.max_length, memory_bytes())
        # The reference too: in bfloat16 a sum of log-probabilities changes with what is read beside it.
        at_once = of_reference = 1
    else:
        recomputed, at_once = recomputes(model, compute), share_of(recipe.batch_size)
        # Without gradients a small model reads more at once.
        of_reference = recipe.batch_size if recomputed else 4 * recipe.batch_size
    return DPOConfig(
        **trainer_arguments(job, pairs, recomputed, at_once),
        precompute_ref_batch_size=of_reference,
        loss_type=list(recipe.loss_type),
        loss_weights=list(recipe.loss_weights) if recipe.loss_weights else None,
        label_smoothing=recipe.label_smoothing,
        precompute_ref_log_probs=True,
    )


def trainer_arguments(job: DpoJob, pairs: float, recomputed: bool, at_once: int) -> dict[str, Any]:
    """What TRL's trainers of preferences are told alike.

    Args:
        pairs: how many are trained on; of answers by themselves, half as many.
        recomputed: gradients are computed from checkpoints, to save memory.
        at_once: of a batch's rows, how many this process reads together; their gradients are summed up.
    """
    recipe, compute = job.recipe, compute_of(job.model)
    return {
        "output_dir": str(job.work_dir / "checkpoints"),
        "beta": recipe.beta,
        "learning_rate": recipe.learning_rate,
        "num_train_epochs": recipe.epochs_on(pairs),
        "per_device_train_batch_size": at_once,
        "per_device_eval_batch_size": at_once,
        "gradient_accumulation_steps": recipe.gradient_accumulation * share_of(recipe.batch_size) // at_once,
        "warmup_steps": recipe.warmup_share,
        "max_length": job.model.max_length,
        "seed": recipe.seed,
        "bf16": compute.autocast_bf16,
        "gradient_checkpointing": recomputed,
        "use_cpu": not compute.on_gpu,
        "dataloader_pin_memory": compute.on_gpu,
        "logging_steps": LOGGED_SHARE,
        "logging_nan_inf_filter": False,
        "save_strategy": "steps",
        "save_steps": recipe.checkpoint_steps,
        "save_total_limit": 2,
        "report_to": "none",
        "disable_tqdm": True,
    }
