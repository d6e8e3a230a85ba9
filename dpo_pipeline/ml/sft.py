"""v1.0: a LoRA adapter tuned on demonstrations, rather terse ones, for people to improve on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dpo_pipeline.core.conversation import as_rows
from dpo_pipeline.core.questions import Question
from dpo_pipeline.ml.adapters import check_adapter, check_weights, save_adapter, to_train_on
from dpo_pipeline.ml.base_model import BaseModel, load_base
from dpo_pipeline.ml.chat_template import ChatTemplate, as_messages
from dpo_pipeline.ml.compute import compute_of, recomputes
from dpo_pipeline.ml.embedded import Progress, first_sentence
from dpo_pipeline.ml.processes import share_of
from dpo_pipeline.ml.reporting import LOGGED_SHARE, progress_callback, quieten
from dpo_pipeline.quick_imports import quick_imports
from dpo_pipeline.request_errors import InvalidRequest
from dpo_pipeline.settings import ModelSettings, SftRecipe


@dataclass(frozen=True)
class SftJob:
    """`start_dir` is the adapter to go on from; null begins a new one."""

    base: BaseModel
    recipe: SftRecipe
    model: ModelSettings
    work_dir: Path
    start_dir: Path | None = None


def demonstrations(bank: Sequence[Question]) -> list[dict[str, Any]]:
    """Rows for TRL: of each question two brief answers and a detailed one.

    Brief are the first sentences of detailed answers. So v1.0 mostly stops after one sentence, which
    leaves something to prefer.
    """
    return [
        demonstration(question, answer)
        for number, question in enumerate(bank)
        for answer in (*map(first_sentence, question.detailed[:2]), question.detailed[number % 2])
    ]


def demonstration(question: Question, answer: str) -> dict[str, Any]:
    """One row for TRL."""
    return {
        "prompt": [{"role": "user", "content": question.question}],
        "completion": [{"role": "assistant", "content": answer}],
    }


def train_sft(
    job: SftJob, rows: Sequence[dict[str, Any]], adapter_dir: Path, progress: Progress
) -> tuple[dict[str, Any], list[dict[str, float]]]:
    """Tune an adapter on `rows` (prompt and completion, as TRL takes them) and save it into `adapter_dir`.

    Returns:
        Facts for the manifest: recipe, final loss, norm of the update, rows that the template cannot take; and the
        curve, one row a logged step.
    """
    with quick_imports():
        from trl import SFTTrainer

    from dpo_pipeline.ml.shared_prompts import share_prompts
    from dpo_pipeline.ml.trl_rows import trl_rows

    model, tokenizer = load_base(job.base.directory, job.model)
    if job.start_dir:
        check_adapter(job.start_dir, job.base.sha, job.model)
        model = to_train_on(model, job.start_dir, job.base.directory)
    tokenizer.padding_side = "right"
    template = ChatTemplate(tokenizer)
    usable = _usable(rows, template, job.model.max_length)
    trainer = SFTTrainer(
        model=model,
        args=_config(job, model),
        train_dataset=trl_rows(usable),
        processing_class=tokenizer,
        peft_config=None if job.start_dir else _new_adapter(job.model),
        callbacks=[progress_callback(progress)],
    )
    quieten(trainer)
    share_prompts(trainer.model.get_base_model())
    template.check_context(
        (as_messages(row["prompt"]), _untrained(made)) for row, made in zip(usable, trainer.train_dataset, strict=True)
    )
    result = trainer.train()
    save_adapter(trainer.model, adapter_dir)
    update = check_weights(adapter_dir, job.start_dir)
    facts = {
        "kind": "adapter",
        "base_sha": job.base.sha,
        "recipe": job.recipe.model_dump(mode="json"),
        "demonstrations": len(usable),
        "left_out": len(rows) - len(usable),
        "final_loss": round(float(result.training_loss), 4),
        **update,
    }
    return facts, [row for row in trainer.state.log_history if "loss" in row]


def _config(job: SftJob, model: Any) -> Any:
    from trl import SFTConfig

    compute = compute_of(job.model)
    return SFTConfig(
        output_dir=str(job.work_dir),
        num_train_epochs=job.recipe.epochs,
        learning_rate=job.recipe.learning_rate,
        per_device_train_batch_size=share_of(job.recipe.batch_size),
        lr_scheduler_type="cosine",
        warmup_steps=0.05,
        max_length=job.model.max_length,
        logging_steps=LOGGED_SHARE,
        save_strategy="no",
        report_to="none",
        seed=job.recipe.seed,
        bf16=compute.autocast_bf16,
        gradient_checkpointing=recomputes(model, compute),
        use_cpu=not compute.on_gpu,
        dataloader_pin_memory=compute.on_gpu,
        disable_tqdm=True,
        completion_only_loss=True,
    )


def _new_adapter(model: ModelSettings) -> Any:
    from peft import LoraConfig

    return LoraConfig(
        r=model.lora_rank,
        lora_alpha=model.lora_alpha,
        target_modules=list(model.lora_targets),
        task_type="CAUSAL_LM",
    )


def _untrained(made: Mapping[str, Any]) -> list[int]:
    """The tokens of a row of the trainer that stand before its answer."""
    return [token for token, label in zip(made["input_ids"], made["labels"], strict=True) if label == -100]


def _usable(rows: Sequence[dict[str, Any]], template: ChatTemplate, longest: int) -> list[dict[str, Any]]:
    """Rows as the template takes them; those that it cannot take, or that leave no room for an answer, are left out."""
    usable = []
    for row in rows:
        asked, answer = as_messages(row["prompt"]), row["completion"][0]["content"]
        try:
            template.trained(asked, answer)
        except InvalidRequest:
            continue
        if len(template.prompt_ids(asked)) >= longest:
            continue
        usable.append(
            {
                "prompt": template.fitted(asked),
                "completion": as_rows([("assistant", template.said(answer))]),
            }
        )
    return usable
