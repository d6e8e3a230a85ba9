"""KTO training of one adapter: from answers that are good or bad each by itself, by TRL's `KTOTrainer`.

Of a pair the chosen answer is a good one and the rejected a bad one; beside them stand answers that people labelled.
Start, frozen reference, checks, checkpoints and the held-out pairs that it is judged on are those of `ml.dpo`.

Ethayarajh et al., "KTO: Model Alignment as Prospect Theoretic Optimization", 2024. The two kinds weigh alike in sum
(equation 8, at the lower end of its range), as far as `core.dataset.answer_weights` lets them.
"""

import random
from collections import Counter
from pathlib import Path
from typing import Any

from dpo_pipeline.core.conversation import as_rows
from dpo_pipeline.core.dataset import answer_weights, check_answers
from dpo_pipeline.ml.adapters import save_adapter, to_train_on
from dpo_pipeline.ml.base_model import load_model
from dpo_pipeline.ml.chat_template import ChatTemplate, as_messages
from dpo_pipeline.ml.compute import compute_of, recomputes
from dpo_pipeline.ml.dpo import DpoResult, facts_of, held_out_metrics, resume_and_train, trainer_arguments
from dpo_pipeline.ml.embedded import Progress
from dpo_pipeline.ml.processes import share_of
from dpo_pipeline.ml.reference import check_reference
from dpo_pipeline.ml.reporting import quieten
from dpo_pipeline.ml.training_job import LABELLED, DpoJob, UsablePairs, read_rows, usable_pairs
from dpo_pipeline.quick_imports import quick_imports
from dpo_pipeline.request_errors import InvalidRequest


def train_kto(job: DpoJob, adapter_dir: Path, progress: Progress) -> DpoResult:
    """Train, check and save the adapter into `adapter_dir`.

    Raises:
        DatasetTooSmall: fewer answers than one step takes.
        TrainingDiverged, AdapterRefused: as `ml.dpo.train_dpo`.
    """
    pairs = usable_pairs(job)
    facts, curve = _trained(job, pairs, adapter_dir, progress)
    # Without pairs that were held out, what training itself showed last.
    last = {name: value for name, value in curve[-1].items() if name.startswith("rewards/")}
    return DpoResult(facts, held_out_metrics(job, pairs, adapter_dir) if len(pairs.held) else last, curve)


def _trained(
    job: DpoJob, pairs: UsablePairs, adapter_dir: Path, progress: Progress
) -> tuple[dict[str, Any], list[dict[str, float]]]:
    """(facts, curve); its model is gone by the time that the held-out pairs are read by another."""
    trainer, good, left_out = _trainer(job, pairs)
    resume = resume_and_train(trainer, job, progress)
    save_adapter(trainer.model, adapter_dir)
    facts = facts_of(job, pairs, adapter_dir, resume)
    facts |= {"answers": len(trainer.train_dataset), "good_answers": good}
    facts["left_out"] = dict(pairs.left_out + left_out)
    return facts, [row for row in trainer.state.log_history if "loss" in row]


def _trainer(job: DpoJob, pairs: UsablePairs) -> tuple[Any, int, Counter[str]]:
    """(TRL's trainer with the reference computed, how many of its answers are good, what was left out)."""
    with quick_imports():
        from trl import KTOConfig, KTOTrainer

    from dpo_pipeline.ml.trl_rows import trl_rows

    model, tokenizer = load_model(job.base.directory, job.model), pairs.tokenizer
    template = ChatTemplate(tokenizer)
    rows, left_out = _answers(job, pairs, template, tokenizer)
    check_answers(len(rows), job.recipe.batch_size)
    good = sum(row["label"] for row in rows)
    good_weight, bad_weight = answer_weights(good, len(rows) - good)
    policy = to_train_on(model, job.start_dir, job.base.directory)
    policy.create_or_update_model_card = lambda output_dir: None  # see `ml.dpo`
    recomputed, batch = recomputes(model, compute_of(job.model)), share_of(job.recipe.batch_size)
    arguments = trainer_arguments(job, len(rows) / 2, recomputed, batch)
    # As many answers a step as the two of each of its pairs.
    arguments |= {"per_device_train_batch_size": 2 * job.recipe.batch_size, "precompute_ref_log_probs": True}
    trainer = KTOTrainer(
        model=policy,
        args=KTOConfig(
            **arguments,
            desirable_weight=good_weight,
            undesirable_weight=bad_weight,
        ),
        train_dataset=trl_rows(rows),
        processing_class=tokenizer,
    )
    quieten(trainer)
    template.check_context(
        (as_messages(row["prompt"]), made["prompt_ids"]) for row, made in zip(rows, trainer.train_dataset, strict=True)
    )
    check_reference(policy)
    policy.delete_adapter("ref")  # its log-probabilities are in the dataset now
    return trainer, good, left_out


def _answers(
    job: DpoJob, pairs: UsablePairs, template: ChatTemplate, tokenizer: Any
) -> tuple[list[dict[str, Any]], Counter[str]]:
    """Rows for TRL in an order of their own, in which good and bad ones mix, and why others are left out.

    TRL estimates how far the policy went from answers put behind their neighbours' questions.
    """
    rows = [
        {"prompt": pair["prompt"], "completion": pair[side], "label": side == "chosen"}
        for pair in pairs.train
        for side in ("chosen", "rejected")
    ]
    left_out: Counter[str] = Counter()
    labelled = job.dataset_dir / LABELLED
    for row in read_rows(labelled) if labelled.exists() else []:
        asked, answer = as_messages(row["prompt"]), row["completion"][0]["content"]
        try:
            prompt, _ = template.trained(asked, answer)
        except InvalidRequest:
            left_out["cannot_be_told"] += 1
            continue
        if len(tokenizer(prompt, add_special_tokens=False)["input_ids"]) >= job.model.max_length:
            left_out["prompt_too_long"] += 1
            continue
        said = as_rows([("assistant", template.said(answer))])
        rows.append({"prompt": template.fitted(asked), "completion": said, "label": row["label"]})
    random.Random(job.recipe.seed).shuffle(rows)
    return rows, left_out
