"""What LLaMA-Factory leaves while it trains: checkpoints, of which some are half ones, and its log of steps."""

import json
import math
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from dpo_pipeline.errors import TrainingDiverged
from dpo_pipeline.ml.embedded import Progress

CURVE, STATE = "trainer_log.jsonl", "trainer_state.json"


def last_checkpoint(output: Path) -> Path | None:
    """The newest whole one; half ones are deleted, because LLaMA-Factory would take them."""
    for path in sorted(output.glob("checkpoint-*"), key=lambda path: -int(path.name.split("-")[1])):
        if is_whole(path):
            return path
        shutil.rmtree(path)
    return None


def is_whole(folder: Path) -> bool:
    """Whether a checkpoint, or the result, was written to its end: its state comes last."""
    try:
        json.loads((folder / STATE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return True


def curve_follower(path: Path, progress: Progress, begin: int = 0) -> Callable[[], None]:
    """A function that reports what LLaMA-Factory has written into its log of steps since the last call.

    Args:
        begin: what stands before this byte was reported by an earlier start.

    Raises (the function):
        TrainingDiverged: the loss is NaN or infinite.
    """
    read = begin

    def follow() -> None:
        nonlocal read
        if not path.exists():
            return
        with path.open("rb") as file:
            if file.seek(0, os.SEEK_END) < read:  # begun again
                read = 0
            file.seek(read)
            for line in file:
                if not line.endswith(b"\n"):
                    break
                read += len(line)
                _report(json.loads(line), progress)

    return follow


def _report(row: Mapping[str, Any], progress: Progress) -> None:
    step, names = row["current_steps"], {"loss": "loss", "accuracy": "rewards/accuracies", "lr": "learning_rate"}
    metrics = {ours: float(row[theirs]) for theirs, ours in names.items() if theirs in row}
    if not math.isfinite(metrics.get("loss", 0.0)):
        raise TrainingDiverged(
            f"loss is {metrics['loss']} at step {step}. Nothing was registered; lower recipe.learning_rate or raise "
            "recipe.beta and start the run again."
        )
    if metrics:
        progress(step, row["total_steps"], metrics)
