"""The rival of the training benchmarks: TRL's `DPOTrainer` as it comes, but for what makes two sides comparable."""

from pathlib import Path
from typing import Any

from dpo_pipeline.ml.base_model import BaseModel
from dpo_pipeline.ml.compute import compute_of
from dpo_pipeline.settings import Settings


def stock_trainer(
    settings: Settings, base: BaseModel, start: Path, dataset: Path, work: Path, dtype: str = "auto", **changed: Any
) -> Any:
    """Loaded and ready to train on the pairs of `dataset`, from the adapter `start`, by the recipe of the settings.

    Args:
        dtype: of the weights; as transformers names it.
        changed: arguments of `DPOConfig` that differ from TRL's defaults beside.
    """
    from datasets import Dataset
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import DPOConfig, DPOTrainer

    recipe = settings.recipe
    data = {
        name: Dataset.from_parquet(str(dataset / f"{name}.parquet"), cache_dir=str(work / "data"))
        for name in ("train", "eval")
    }
    model = AutoModelForCausalLM.from_pretrained(base.directory, dtype=dtype)
    return DPOTrainer(
        model=PeftModel.from_pretrained(model, start, is_trainable=True),
        args=DPOConfig(
            output_dir=str(work),
            loss_type=list(recipe.loss_type),
            loss_weights=list(recipe.loss_weights) if recipe.loss_weights else None,
            beta=recipe.beta,
            per_device_train_batch_size=recipe.batch_size,
            num_train_epochs=recipe.epochs,
            learning_rate=recipe.learning_rate,
            warmup_steps=recipe.warmup_share,
            max_length=settings.model.max_length,
            use_cpu=not compute_of(settings.model).on_gpu,  # without it TRL refuses to start there
            report_to="none",
            logging_steps=1,
            seed=recipe.seed,
            **changed,
        ),
        train_dataset=data["train"],
        eval_dataset=data["eval"],
        processing_class=AutoTokenizer.from_pretrained(base.directory),
    )
