"""How many pairs a second does our DPO train, against stock TRL on the same pairs?

Ours is `ml.dpo.train_dpo` with the recipe of the settings, from loading the base model to the
checked adapter, reference log-probabilities computed again each time. The rival is TRL's
`DPOTrainer` with its own defaults (bf16 autocast, gradient checkpointing, a reference pass in every
step) but for what makes the two comparable: pairs, start adapter, loss, batch size, epochs, learning
rate and its warm-up, max_length; seed and logging of each step, so that the losses are of the same batches.
On a processor without bf16 units its default dtype alone makes it many times slower, which is no merit
of ours: so it runs a second time in our dtype, and that is the goal's rival.
All load, train, evaluate and save. Goal: 2 × the pairs a second, the same losses within noise.
"""

import argparse
import math
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inputs import bank_dataset, baseline, settings_for
from reporting import Goal, report, say, show
from stock_trl import stock_trainer

from dpo_pipeline.ml.base_model import BaseModel
from dpo_pipeline.ml.compute import compute_of
from dpo_pipeline.settings import DpoRecipe, Settings

GOAL, LOSS_NOISE = 2.0, 0.1
OUR_DTYPE, FAR_SLOWER = "TRL in our dtype", 8
LAST_SHARE = 3  # the losses of the last third of the steps are averaged: single steps are noise


@dataclass(frozen=True)
class Outcome:
    """Wall time of one training, its pairs (times epochs), and where the loss ended."""

    seconds: float
    pairs: float
    train_loss: float
    eval_loss: float

    @property
    def rate(self) -> float:
        return self.pairs / self.seconds


@dataclass(frozen=True)
class Task:
    """What both sides train; `recipe` may be shortened for warming up."""

    settings: Settings
    base: BaseModel
    start: Path
    dataset: Path
    recipe: DpoRecipe


def ours(task: Task, work: Path) -> Outcome:
    from dpo_pipeline.ml.dpo import train_dpo
    from dpo_pipeline.ml.training_job import DpoJob

    begin = time.perf_counter()
    job = DpoJob(
        base=task.base,
        start_dir=task.start,
        dataset_dir=task.dataset,
        recipe=task.recipe,
        model=task.settings.model,
        work_dir=work,
        reference_cache=work / "reference",
    )
    result = train_dpo(job, work / "adapter", lambda step, total, metrics: None)
    seconds = time.perf_counter() - begin
    last = _last(result.curve)
    return Outcome(seconds, result.facts["pairs"] * task.recipe.epochs, last, result.metrics["loss"])


def stock_trl(task: Task, work: Path, **changed: Any) -> Outcome:
    """TRL as it comes, but for what is named in `changed`."""
    begin = time.perf_counter()
    settings = task.settings.model_copy(update={"recipe": task.recipe})
    trainer = stock_trainer(settings, task.base, task.start, task.dataset, work, **changed)
    trainer.train()
    eval_loss = trainer.evaluate()["eval_loss"]
    trainer.save_model(str(work / "adapter"))
    seconds = time.perf_counter() - begin
    last = _last([row for row in trainer.state.log_history if "loss" in row])
    return Outcome(seconds, len(trainer.train_dataset) * task.recipe.epochs, last, eval_loss)


def trl_in_our_dtype(task: Task, work: Path) -> Outcome:
    return stock_trl(task, work, bf16=compute_of(task.settings.model).autocast_bf16)


def _last(curve: list[dict[str, float]]) -> float:
    """Mean loss over the last third of the steps; not a number where nothing was logged (the warm-up)."""
    if not curve:
        return math.nan
    begin = curve[-1]["step"] * (1 - 1 / LAST_SHARE)
    return statistics.mean(row["loss"] for row in curve if row["step"] > begin)


def _run(side: Callable[[Task, Path], Outcome], task: Task) -> Outcome:
    with tempfile.TemporaryDirectory() as work:
        return side(task, Path(work))


def measure(task: Task, repeats: int) -> dict[str, list[Outcome]]:
    """All sides in turn, after a short training each that pays for imports and first-time work.

    Stock TRL takes part in the first turn only where it is by far the slowest: emulated bf16 would take an hour.
    """
    sides = {"ours": ours, OUR_DTYPE: trl_in_our_dtype, "stock TRL": stock_trl}
    warm = Task(task.settings, task.base, task.start, task.dataset, task.recipe.model_copy(update={"epochs": 0.5}))
    for side in sides.values():
        _run(side, warm)
    outcomes: dict[str, list[Outcome]] = {name: [] for name in sides}
    for turn in range(repeats):
        for name, side in sides.items():
            if turn and outcomes[name][0].seconds > FAR_SLOWER * outcomes["ours"][0].seconds:
                continue
            outcomes[name].append(_run(side, task))
            say(f"{turn + 1} of {repeats}: {name} {outcomes[name][-1].seconds:.1f} s")
    return outcomes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", help="where base model and v1.0 are or shall be; default: that of the settings")
    parser.add_argument("--pairs", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    settings = settings_for(args.data_dir)
    base, start = baseline(settings)
    dataset = bank_dataset(settings, args.pairs)
    task = Task(settings, base, Path(start.adapter_dir), dataset, settings.recipe)
    outcomes = measure(task, args.repeats)
    rows: list[dict[str, Any]] = [
        {
            "side": name,
            "pairs/s, median": statistics.median(o.rate for o in runs),
            "best": max(o.rate for o in runs),
            "seconds, median": statistics.median(o.seconds for o in runs),
            "last train loss": statistics.mean(o.train_loss for o in runs),
            "eval loss": statistics.mean(o.eval_loss for o in runs),
        }
        for name, runs in outcomes.items()
    ]
    show(f"DPO on {outcomes['ours'][0].pairs:.0f} pairs (epochs counted), {args.repeats} runs each in turn", rows)
    us, rival, stock = rows
    goals = [
        Goal("pairs a second over TRL in our dtype, best runs,", us["best"] / rival["best"], "at least", GOAL),
        Goal("pairs a second over stock TRL, best runs,", us["best"] / stock["best"], "at least", GOAL),
        Goal(
            "train loss apart from TRL's",
            abs(us["last train loss"] - rival["last train loss"]),
            "at most",
            LOSS_NOISE,
        ),
        Goal("eval loss apart from TRL's", abs(us["eval loss"] - rival["eval loss"]), "at most", LOSS_NOISE),
    ]
    report("training", goals, {"sides": rows, "runs_s": {n: [o.seconds for o in r] for n, r in outcomes.items()}})


if __name__ == "__main__":
    main()
