"""What several benchmarks are measured on: quiet libraries, settings, a base model with v1.0, pairs of the bank.

Everything is deterministic; nothing is measured here.
"""

import os
from pathlib import Path
from typing import Any

from dpo_pipeline.core.dataset import Pair, split_pairs
from dpo_pipeline.core.lifecycle import Status
from dpo_pipeline.core.questions import Question, split_bank
from dpo_pipeline.ml import train_process
from dpo_pipeline.ml.base_model import BaseModel, ensure_base
from dpo_pipeline.ml.train_process import ProcessResult
from dpo_pipeline.ml.training_plan import dpo_job, sft_job, write_dataset
from dpo_pipeline.settings import Settings, load_settings
from dpo_pipeline.stores.bank import read_bank
from dpo_pipeline.stores.ledger import Ledger

QUIET = {
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "TQDM_DISABLE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "DAGSTER_DISABLE_TELEMETRY": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "DO_NOT_TRACK": "1",
}


def settings_for(data_dir: str | None, **changed: Any) -> Settings:
    """The settings as a user has them, but for what is changed. Libraries are told to be quiet.

    Args:
        data_dir: another data directory; null: that of the settings.
    """
    os.environ.update(QUIET)
    return load_settings(**({"data_dir": data_dir} if data_dir else {}), **changed)


def baseline(settings: Settings) -> tuple[BaseModel, ProcessResult]:
    """Base model and v1.0, built where they are not here yet (a few minutes, once)."""
    base = ensure_base(settings, lambda step, total, metrics: None)
    return base, train_process.run(sft_job(settings, base))


def successor(settings: Settings, base: BaseModel, start: ProcessResult) -> ProcessResult:
    """A version trained from v1.0 on pairs of the bank, trained where it is not here yet."""
    data = bank_dataset(settings, 200)
    job = dpo_job(settings, base, settings.recipe, Path(start.adapter_dir), data, {"version": "v1.1", "parent": "v1.0"})
    return train_process.run(job)


def bank_dataset(settings: Settings, count: int) -> Path:
    """A published dataset of about `count` training pairs: chosen detailed, rejected terse."""
    asked = asked_questions(settings)
    wanted = round(count / (1 - settings.evaluation.eval_share))
    pairs = [bank_pair(asked[number % len(asked)], number) for number in range(wanted)]
    split = split_pairs(pairs, frozenset(), settings.evaluation.eval_share, settings.recipe.batch_size)
    return write_dataset(settings, split)


def bank_pair(question: Question, number: int) -> Pair:
    return Pair(
        event_id=f"bench-{number:06d}",
        prompt=question.question,
        chosen=question.detailed[number % len(question.detailed)],
        rejected=question.terse[number % len(question.terse)],
        category=question.category,
        source="synthetic",
    )


def accepted(ledger: Ledger, name: str, adapter_sha: str, directory: Path) -> None:
    """A version that may serve, with no training behind it."""
    ledger.start_training(name, 1, None, "", {})
    ledger.record_training(name, adapter_sha, str(directory), {}, None)
    ledger.record_evaluation(name, Status.IMPROVED, None, {})
    ledger.register(name, None)


def asked_questions(settings: Settings) -> list[Question]:
    """The bank without the questions that versions are judged on."""
    return split_bank(read_bank(settings.bank_dir), settings.collection.holdout_share)[0]
