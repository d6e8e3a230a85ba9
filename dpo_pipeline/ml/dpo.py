"""DPO training of one adapter: TRL and PEFT, resumable, with the reference it was asked to have.

The reference is the adapter that training starts from, frozen, never by accident the bare base
model: TRL copies the adapter that a `PeftModel` comes with. Its log-probabilities are computed once
and cached by dataset and reference.
"""

import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from dpo_pipeline.core.conversation import as_rows
from dpo_pipeline.core.dataset import LabelledAnswer
from dpo_pipeline.core.votes import prompt_messages
from dpo_pipeline.errors import ArtifactError, DatasetTooSmall, InvalidRequest
from dpo_pipeline.ml.adapters import WEIGHTS, check_adapter, check_weights, save_adapter, to_train_on
from dpo_pipeline.ml.base_model import BaseModel, load_model, load_tokenizer
from dpo_pipeline.ml.chat_template import ChatTemplate, as_messages
from dpo_pipeline.ml.compute import compute_of, goes_row_by_row, keeps_row, recomputes
from dpo_pipeline.ml.embedded import Progress
from dpo_pipeline.ml.processes import first_then_others, is_first, share_of, wait_for_all, world_size
from dpo_pipeline.ml.reference import cached_reference_trainer, check_reference
from dpo_pipeline.ml.reporting import LOGGED_SHARE, progress_callback, quieten
from dpo_pipeline.settings import DpoRecipe, ModelSettings
from dpo_pipeline.stores import artifacts

LABELLED = "labelled.parquet"
"""Of a dataset, where it has labelled answers."""


@dataclass(frozen=True)
class DpoJob:
    """All that goes into a training. `start_dir` is the adapter to start from, and the reference."""

    base: BaseModel
    start_dir: Path
    dataset_dir: Path
    recipe: DpoRecipe
    model: ModelSettings
    work_dir: Path
    reference_cache: Path


@dataclass(frozen=True)
class DpoResult:
    """`curve` has one row a logged step; `metrics` is the evaluation on the held-out pairs at the end."""

    facts: dict[str, Any]
    metrics: dict[str, float]
    curve: list[dict[str, float]]


@dataclass(frozen=True)
class UsablePairs:
    """The pairs of a dataset as they are trained on, and how many were left out, by reason.

    `tokenizer` is the one that read them, padding on the right; a large one takes seconds to load.
    """

    tokenizer: Any
    train: Any
    held: Any
    left_out: Counter[str]
    dataset_hash: str
    reference_sha: str


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
    trainer.add_callback(_seal_checkpoints())
    with first_then_others():  # of which the first deletes what is broken
        resume = _last_complete_checkpoint(job.work_dir / "checkpoints")
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


def usable_pairs(job: DpoJob) -> UsablePairs:
    """
    Raises:
        DatasetTooSmall: fewer usable pairs than one batch, where pairs alone are trained on.
        AdapterRefused: the start is on another base.
    """
    start = check_adapter(job.start_dir, job.base.sha, job.model)
    tokenizer = load_tokenizer(job.base.directory)
    tokenizer.padding_side = "right"
    template = ChatTemplate(tokenizer)
    train, left_out = _usable(read_rows(job.dataset_dir / "train.parquet"), template, tokenizer, job.model.max_length)
    held, _ = _usable(read_rows(job.dataset_dir / "eval.parquet"), template, tokenizer, job.model.max_length)
    if job.recipe.objective == "dpo" and (len(train) < job.recipe.batch_size or not len(held)):
        raise DatasetTooSmall(
            f"{len(train)} training and {len(held)} evaluation pairs are usable within {job.model.max_length} tokens "
            f"({dict(left_out)} left out); one batch of {job.recipe.batch_size} and one were required. "
            "Collect more pairs, raise model.max_length, or lower recipe.batch_size."
        )
    content_hash = artifacts.read_manifest(job.dataset_dir)["content_hash"]
    return UsablePairs(tokenizer, train, held, left_out, content_hash, start["sha256"])


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
        recomputed = not keeps_row(model, 2 * job.model.max_length, psutil.virtual_memory().total)
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


def read_rows(path: Path) -> Any:
    import pyarrow.parquet as pq
    from datasets import Dataset

    return Dataset.from_list(pq.read_table(path).to_pylist())


def _usable(dataset: Any, template: ChatTemplate, tokenizer: Any, max_length: int) -> tuple[Any, Counter[str]]:
    """Rows as the template takes them, that fit and still differ once cut to `max_length` tokens; why others do not.

    TRL would drop or keep them in silence, or stop at the first that cannot be rendered.
    """
    from datasets import Dataset

    reasons: Counter[str] = Counter()

    def usable(row: Mapping[str, Any]) -> dict[str, Any] | None:
        asked = as_messages(row["prompt"])
        chosen, rejected = (row[side][0]["content"] for side in ("chosen", "rejected"))
        try:
            texts = [template.trained(asked, answer) for answer in (chosen, rejected)]
        except InvalidRequest:
            reasons["cannot_be_told"] += 1
            return None
        read = tokenizer([texts[0][0], texts[0][1], texts[1][1]], add_special_tokens=False)["input_ids"]
        if len(read[0]) >= max_length:
            reasons["prompt_too_long"] += 1
            return None
        if read[1][:max_length] == read[2][:max_length]:
            reasons["identical_after_truncation"] += 1
            return None
        return {
            "event_id": row["event_id"],
            "prompt": template.fitted(asked),
            "chosen": as_rows([("assistant", template.said(chosen))]),
            "rejected": as_rows([("assistant", template.said(rejected))]),
        }

    kept = [found for row in dataset if (found := usable(row))]
    return Dataset.from_list(kept), reasons


def _seal_checkpoints() -> Any:
    """A callback that writes a manifest into every checkpoint once it is whole."""
    from transformers import TrainerCallback

    class SealCheckpoints(TrainerCallback):
        def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            directory = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            wait_for_all()  # each process has put its own generator's state there
            if is_first():
                artifacts.write_manifest(directory, {"kind": "checkpoint", "step": state.global_step})

    return SealCheckpoints()


def _last_complete_checkpoint(directory: Path) -> Path | None:
    """The newest checkpoint whose manifest agrees; broken ones are deleted, because they cannot be resumed."""
    for path in sorted(directory.glob("checkpoint-*"), key=lambda path: -int(path.name.split("-")[1])):
        try:
            artifacts.verify(path)
        except ArtifactError:
            shutil.rmtree(path)
        else:
            return path
    return None


def labelled_rows(answers: Sequence[LabelledAnswer]) -> list[dict[str, Any]]:
    """Labelled answers in TRL's conversational form for KTO: prompt, completion and label."""
    return [
        {
            "event_id": each.event_id,
            "prompt": prompt_messages(each.prompt),
            "completion": as_rows([("assistant", each.answer)]),
            "label": each.good,
        }
        for each in answers
    ]


def training_rows(pairs: Any) -> list[dict[str, Any]]:
    """Pairs in TRL's conversational form: prompt, chosen and rejected as lists of messages."""
    return [
        {
            "event_id": pair.event_id,
            "prompt": prompt_messages(pair.prompt),
            "chosen": [{"role": "assistant", "content": pair.chosen}],
            "rejected": [{"role": "assistant", "content": pair.rejected}],
        }
        for pair in pairs
    ]
