"""The same dataset and recipe for LLaMA-Factory: `dataset_info.json`, its JSONL, and the training YAML.

LLaMA-Factory cannot share an environment with this TRL; run it in one of its own:
`llamafactory-cli train dpo.yaml`.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from dpo_pipeline.core.dataset import LabelledAnswer, Pair
from dpo_pipeline.core.template_tokens import defuse
from dpo_pipeline.core.votes import Message, prompt_messages
from dpo_pipeline.ml.compute import compute_of
from dpo_pipeline.settings import DpoRecipe, ModelSettings
from dpo_pipeline.stores.artifacts import write_text

_FROM = {"system": "system", "user": "human", "assistant": "gpt"}
SCORES_AT_ONCE = 2**30
"""Bytes of scores that LLaMA-Factory may be at: it keeps those of every token, and five times that in all."""


def write_dataset(directory: Path, pairs: Sequence[Pair], labelled: Sequence[LabelledAnswer] = ()) -> None:
    """Pairs and, for KTO, each answer by itself, in sharegpt form; and the entries that describe them."""
    directory.mkdir(parents=True, exist_ok=True)
    answers = [_answer(pair.prompt, text, good) for pair in pairs for text, good in
               ((pair.chosen, True), (pair.rejected, False))]  # fmt: skip
    answers += [_answer(each.prompt, each.answer, each.good) for each in labelled]
    for name, rows in (("prefs", [_row(pair) for pair in pairs]), ("answers", answers)):
        lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
        write_text(directory / f"{name}.jsonl", "".join(lines))
    info = {
        "prefs": {
            "file_name": "prefs.jsonl",
            "formatting": "sharegpt",
            "ranking": True,
            "columns": {"messages": "conversations", "chosen": "chosen", "rejected": "rejected"},
        },
        "answers": {
            "file_name": "answers.jsonl",
            "formatting": "sharegpt",
            "columns": {"messages": "conversations", "kto_tag": "good"},
        },
    }
    write_text(directory / "dataset_info.json", json.dumps(info, indent=2))


def write_config(
    directory: Path,
    recipe: DpoRecipe,
    model: ModelSettings,
    base: str,
    start: str,
    dataset: str,
    pairs: float,
    output: str,
    tokens: str | None = None,
    weights: tuple[float, float] = (1.0, 1.0),
) -> dict[str, Any]:
    """Write `dpo.yaml`, or `kto.yaml` by the recipe's objective, for `llamafactory-cli train`; returns what it says.

    Args:
        base, start: folders of the base model and of the adapter that is start and reference.
        dataset, pairs: folder that `write_dataset` filled, and how many pairs it has to train on; for KTO half as many
            as there are answers.
        output: folder for the new adapter.
        tokens: folder of the dataset in tokens, which LLaMA-Factory then reads in place of the texts.
        weights: of good and of bad answers, for KTO.
    """
    compute, is_kto = compute_of(model), recipe.objective == "kto"
    config = {
        "stage": recipe.objective,
        "do_train": True,
        "model_name_or_path": base,
        "adapter_name_or_path": start,
        "ref_model": base,
        "ref_model_adapters": start,
        "finetuning_type": "lora",
        "lora_rank": model.lora_rank,
        "lora_alpha": model.lora_alpha,
        "lora_target": ",".join(model.lora_targets),
        "pref_beta": recipe.beta,
        **(_kto(weights) if is_kto else _dpo(recipe)),
        "dataset_dir": dataset,
        # Given tokens it needs no template, and not every template lets it find out what it looks like.
        **({"tokenized_path": tokens, "template": "empty"} if tokens else {}),
        "cutoff_len": model.max_length,
        "output_dir": output,
        **_batch(recipe, model, Path(base)),
        "learning_rate": recipe.learning_rate,
        "num_train_epochs": recipe.epochs_on(pairs),
        "lr_scheduler_type": "linear",
        "warmup_ratio": recipe.warmup_share,
        # Of itself it computes in float32 on a processor, also where that has a unit for bfloat16.
        "bf16": compute.dtype == "bfloat16",
        "use_cpu": not compute.on_gpu,
        "seed": recipe.seed,
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "save_steps": recipe.checkpoint_steps,
        "save_total_limit": 2,
        "report_to": "none",
    }
    write_text(directory / f"{recipe.objective}.yaml", yaml.safe_dump(config, sort_keys=False))
    return config


def _batch(recipe: DpoRecipe, model: ModelSettings, base: Path) -> dict[str, int]:
    if recipe.objective == "kto":  # weighs an answer against the others of its batch: its parts are another training
        rows, parts = 2 * recipe.batch_size, 1
    else:
        described = json.loads((base / "config.json").read_text(encoding="utf-8"))
        vocabulary = described.get("text_config", described)["vocab_size"]
        rows = pairs_at_once(recipe.batch_size, model.max_length, vocabulary)
        parts = recipe.batch_size // rows
    return {"per_device_train_batch_size": rows, "gradient_accumulation_steps": recipe.gradient_accumulation * parts}


def pairs_at_once(batch_size: int, tokens: int, vocabulary: int) -> int:
    """The equal parts in which LLaMA-Factory takes a batch: as many pairs as their scores allow, one at the least.

    Args:
        tokens: the longest that an answer and its prompt may be.
    """
    scores_of_pair = 2 * tokens * vocabulary * 4
    sizes = (size for size in range(batch_size, 0, -1) if batch_size % size == 0)
    return next((size for size in sizes if size * scores_of_pair <= SCORES_AT_ONCE), 1)


def _dpo(recipe: DpoRecipe) -> dict[str, Any]:
    return {
        "pref_loss": recipe.loss_type[0],
        "pref_ftx": (recipe.loss_weights or (1.0, 1.0))[1] if len(recipe.loss_type) == 2 else 0.0,
        "dataset": "prefs",
    }


def _kto(weights: tuple[float, float]) -> dict[str, Any]:
    return {"kto_chosen_weight": weights[0], "kto_rejected_weight": weights[1], "dataset": "answers"}


def _told(prompt: str | Sequence[Message]) -> list[dict[str, str]]:
    return [{"from": _FROM[each["role"]], "value": each["content"]} for each in prompt_messages(prompt)]


def _said(answer: str) -> dict[str, str]:
    return {"from": "gpt", "value": defuse(answer, role="assistant").strip()}


def _answer(prompt: str | Sequence[Message], text: str, good: bool) -> dict[str, Any]:
    return {"conversations": [*_told(prompt), _said(text)], "good": good}


def _row(pair: Pair) -> dict[str, Any]:
    return {
        "conversations": _told(pair.prompt),
        "chosen": _said(pair.chosen),
        "rejected": _said(pair.rejected),
    }
