"""What a training tells while it runs: progress, the loss curve, and NaN as soon as it shows."""

import math
from typing import Any

from dpo_pipeline.errors import TrainingDiverged
from dpo_pipeline.ml.embedded import Progress

SHOWN = ("loss", "rewards/margins", "rewards/accuracies", "mean_token_accuracy", "learning_rate")
"""What is told of a logged step while it trains, as TRL names it: SFT has no rewards."""
LOGGED_SHARE = 0.01
"""A hundred points of the loss curve, however long a training is; each step of a short one."""


def progress_callback(progress: Progress) -> Any:
    """A transformers callback that reports each logged step and stops at the first loss that is NaN or infinite.

    Raises (out of `trainer.train()`):
        TrainingDiverged: loss or gradient norm is NaN or infinite.
    """
    from transformers import TrainerCallback

    class ReportProgress(TrainerCallback):
        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
            for name in ("loss", "grad_norm"):
                value = (logs or {}).get(name)
                if value is not None and not math.isfinite(value):
                    raise TrainingDiverged(
                        f"{name} is {value} at step {state.global_step}. Nothing was registered; lower "
                        "recipe.learning_rate or raise recipe.beta and start the run again."
                    )
            metrics = {name: float(logs[name]) for name in SHOWN if logs and name in logs}
            if metrics and state.is_world_process_zero:
                progress(state.global_step, state.max_steps, metrics)

        def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.is_world_process_zero:
                progress(state.max_steps, state.max_steps, {})

    return ReportProgress()


def quieten(trainer: Any) -> None:
    """Take away the callback that prints every log row as a dictionary: progress is reported once, by us."""
    from transformers.trainer_callback import PrinterCallback

    trainer.remove_callback(PrinterCallback)
