"""Small trainings: pairs of the bank in which people like detail, and a job that learns from them."""

import random
from pathlib import Path
from typing import Any

from dpo_pipeline.core.dataset import Pair
from dpo_pipeline.ml.adapters import WEIGHTS
from dpo_pipeline.ml.base_model import locate_base
from dpo_pipeline.ml.train_process import ProcessJob
from dpo_pipeline.ml.training_plan import dpo_job
from dpo_pipeline.settings import DpoRecipe, Settings
from dpo_pipeline.stores.bank import read_bank


def pairs(settings: Settings, count: int = 48) -> list[Pair]:
    draw = random.Random(5)
    questions = draw.sample(list(read_bank(settings.bank_dir)), count)
    return [
        Pair(
            event_id=f"evt-{i:03}",
            prompt=question.question,
            chosen=draw.choice(question.detailed),
            rejected=draw.choice(question.terse),
            category=question.category,
            source="api",
        )
        for i, question in enumerate(questions)
    ]


def job(project: Settings, start: Path, data: Path, **recipe: Any) -> ProcessJob:
    chosen = DpoRecipe(**{"learning_rate": 1e-3, "epochs": 2, "checkpoint_steps": 3, **recipe})
    return dpo_job(project, locate_base(project), chosen, start, data, {"version": "v1.1"})


def tensors(directory: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    return load_file(directory / WEIGHTS)
