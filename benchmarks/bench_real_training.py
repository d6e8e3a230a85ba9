"""How many real human pairs a second does our DPO train on a real language model, and in how much memory?

Profile gemma (Gemma 3 270M, 262,144 tokens of vocabulary) on pairs of `../shared/data` that people chose, 256 tokens,
batches of 8, LoRA of rank 16. Ours is `ml.dpo.train_dpo`, from loading the base to the checked adapter, the reference's
log-probabilities computed again. The first rival is TRL's `DPOTrainer` at its defaults (gradient checkpointing, a
reference pass in every step), but for what makes the two comparable: pairs, start, loss, batch, epochs, learning rate,
warm-up, max_length, seed; once more in our dtype, and without gradient checkpointing, which spends memory to save time.
The second is LLaMA-Factory where `make llamafactory` installed it, on the same tokens and in our dtype, from the start
of its program to its adapter, with batches in the parts that our export asks for, and whole; ours and TRL's are timed
to the held-out figures too. Each side runs in a process of its own, whose peak memory is read. In bfloat16 two ways to
add the same numbers up differ by more than training changes them, so ours and TRL's also train on --exact pairs in
float32, where they must agree. Goals: 2 × the pairs a second, 0.6 × the memory, and, in float32, the same loss in each
step and the same margin afterwards.
"""

import argparse
import json
import multiprocessing
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from inputs import settings_for
from reporting import Goal, report, say, show
from stock_trl import stock_trainer

from dpo_pipeline.core.dataset import Pair, split_pairs
from dpo_pipeline.errors import DpoError
from dpo_pipeline.ml import train_process
from dpo_pipeline.ml.base_model import ensure_base
from dpo_pipeline.ml.training_plan import sft_job, write_dataset
from dpo_pipeline.settings import PROJECT_DIR, Settings

if TYPE_CHECKING:
    from dpo_pipeline.ml.training_job import DpoJob

PAIRS = PROJECT_DIR.parent / "shared" / "data" / "pairs_autoj.jsonl"
TOKENS, LONGEST_PROMPT = 256, 400
OURS, IN_OUR_DTYPE, NO_CHECKPOINTING, STOCK = "ours", "TRL in our dtype", "TRL, no checkpointing", "stock TRL"
FACTORY, IN_ONE = "LLaMA-Factory", "LLaMA-Factory, whole batches"


@dataclass(frozen=True)
class Task:
    settings: Settings
    start: Path
    dataset: Path


@dataclass(frozen=True)
class Outcome:
    """`losses` of each step; `margin` on the held-out pairs at the end."""

    seconds: float
    pairs: int
    losses: list[float]
    eval_loss: float
    margin: float
    peak_gb: float = 0.0


def job_of(task: Task, work: Path) -> "DpoJob":
    from dpo_pipeline.ml.training_job import DpoJob

    return DpoJob(
        base=ensure_base(task.settings, nothing),
        start_dir=task.start,
        dataset_dir=task.dataset,
        recipe=task.settings.recipe,
        model=task.settings.model,
        work_dir=work,
        reference_cache=work / "reference",
    )


def nothing(step: int, total: int, metrics: dict[str, float]) -> None:
    """Of the progress."""


def ours(task: Task, work: Path) -> Outcome:
    from dpo_pipeline.ml.dpo import train_dpo

    begin = time.perf_counter()
    result = train_dpo(job_of(task, work), work / "adapter", nothing)
    losses = [row["loss"] for row in result.curve if "loss" in row]
    seconds, found = time.perf_counter() - begin, result.metrics
    return Outcome(seconds, result.facts["pairs"], losses, found["loss"], found["rewards/margins"])


def stock_trl(task: Task, work: Path, **changed: Any) -> Outcome:
    """TRL as it comes, but for what is named in `changed`."""
    begin = time.perf_counter()
    base = ensure_base(task.settings, nothing)
    trainer = stock_trainer(task.settings, base, task.start, task.dataset, work, save_strategy="no", **changed)
    trainer.train()
    found = trainer.evaluate()
    trainer.save_model(str(work / "adapter"))
    losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    seconds = time.perf_counter() - begin
    return Outcome(seconds, len(trainer.train_dataset), losses, found["eval_loss"], found["eval_rewards/margins"])


def in_our_dtype(task: Task, work: Path) -> Outcome:
    from dpo_pipeline.ml.compute import compute_of

    return stock_trl(task, work, bf16=compute_of(task.settings.model).autocast_bf16)


def without_checkpointing(task: Task, work: Path) -> Outcome:
    from dpo_pipeline.ml.compute import compute_of

    bf16 = compute_of(task.settings.model).autocast_bf16
    return stock_trl(task, work, bf16=bf16, gradient_checkpointing=False)


def llamafactory(task: Task, work: Path) -> Outcome:
    """Its own program, on our tokens and in our dtype; what is timed and weighed is that program alone."""
    from dpo_pipeline.ml.dpo import held_out_metrics
    from dpo_pipeline.ml.llamafactory_output import STATE
    from dpo_pipeline.ml.llamafactory_trainer import run_llamafactory
    from dpo_pipeline.ml.training_job import usable_pairs

    job = job_of(task, work)
    pairs = usable_pairs(job)
    begin = time.perf_counter()
    output, _ = run_llamafactory(job, pairs, task.settings.llamafactory.command, nothing)
    seconds = time.perf_counter() - begin
    peak_gb = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e6
    losses = [row["loss"] for row in json.loads((output / STATE).read_text())["log_history"] if "loss" in row]
    found = held_out_metrics(job, pairs, output)
    return Outcome(seconds, len(pairs.train), losses, found["loss"], found["rewards/margins"], peak_gb)


def whole_batches(task: Task, work: Path) -> Outcome:
    """As it is without our dividing them: in this process alone, which nothing else uses."""
    from dpo_pipeline.ml import llamafactory as exporter

    exporter.SCORES_AT_ONCE = 2**40
    return llamafactory(task, work)


def in_float32(task: Task, work: Path) -> Outcome:
    return stock_trl(task, work, dtype="float32", bf16=False)


SIDES: dict[str, Callable[[Task, Path], Outcome]] = {
    OURS: ours, IN_OUR_DTYPE: in_our_dtype, NO_CHECKPOINTING: without_checkpointing, STOCK: stock_trl,
    FACTORY: llamafactory, IN_ONE: whole_batches,
}  # fmt: skip
EXACT: dict[str, Callable[[Task, Path], Outcome]] = {"ours in float32": ours, "TRL in float32": in_float32}


def run(side: str, task: Task) -> Outcome:
    """In a process of its own, so that its memory is its own."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        return pool.apply(_measured, (side, task))


def _measured(side: str, task: Task) -> Outcome:
    with tempfile.TemporaryDirectory() as work:
        outcome = (SIDES | EXACT)[side](task, Path(work))
    return replace(outcome, peak_gb=outcome.peak_gb or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6)


def prepare(settings: Settings, pairs: int) -> Task:
    """v1.0, tuned for a few steps so that the start is no bare adapter; and pairs of people, cut to what fits."""
    base = ensure_base(settings, nothing)
    start = train_process.run(sft_job(settings, base))
    return Task(settings, Path(start.adapter_dir), real_pairs(settings, pairs))


def real_pairs(settings: Settings, pairs: int) -> Path:
    """A dataset of so many to train on, and of those that are held out."""
    rows = [json.loads(line) for line in PAIRS.read_text(encoding="utf-8").split("\n") if line]
    fitting = [row for row in rows if isinstance(row["prompt"], str) and len(row["prompt"]) < LONGEST_PROMPT]
    wanted = round(pairs / (1 - settings.evaluation.eval_share))
    chosen = [
        Pair(
            event_id=f"real-{number}", prompt=row["prompt"], chosen=row["chosen"], rejected=row["rejected"],
            category="other", source="import",
        )
        for number, row in enumerate(fitting[:wanted])
    ]  # fmt: skip
    split = split_pairs(chosen, frozenset(), settings.evaluation.eval_share, settings.recipe.batch_size)
    return write_dataset(settings, split)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", help="where `make real` put the model; default: that of the settings")
    parser.add_argument("--pairs", type=int, default=64)
    parser.add_argument("--exact", type=int, default=24, help="pairs that are trained on in float32 too")
    parser.add_argument("--sides", nargs="*", default=list(SIDES))
    args = parser.parse_args()
    if not PAIRS.exists():
        raise SystemExit(f"{PAIRS} is not here: real pairs are read from there, and none are in this repository.")
    settings = settings_for(args.data_dir, profile="gemma", model={"max_length": TOKENS}, sft={"epochs": 0.05})
    task = prepare(settings, args.pairs)
    outcomes: dict[str, Outcome] = {}
    for side in args.sides:
        if side in (FACTORY, IN_ONE) and not settings.llamafactory.command.exists():
            say(f"{side} is not installed here: make llamafactory")
            continue
        try:
            outcomes[side] = run(side, task)
        except DpoError as error:  # the others are measured all the same
            say(f"{side} failed: {error}")
            continue
        say(f"{side}: {outcomes[side].seconds:.0f} s, {outcomes[side].peak_gb:.1f} GB")
    rows = [
        {
            "side": side,
            "pairs/s": each.pairs / each.seconds,
            "seconds": each.seconds,
            "peak GB": each.peak_gb,
            "mean loss": statistics.mean(each.losses),
            "eval loss": each.eval_loss,
            "eval margin": each.margin,
        }
        for side, each in outcomes.items()
    ]
    us = outcomes[OURS]
    show(f"DPO on {us.pairs} real pairs, {TOKENS} tokens, batches of {settings.recipe.batch_size}", rows)
    goals = []
    for side, each in outcomes.items():
        if side == OURS:
            continue
        goals += [
            Goal(f"pairs a second over {side},", us.pairs / us.seconds / (each.pairs / each.seconds), "at least", 2.0),
            Goal(f"memory over {side},", us.peak_gb / each.peak_gb, "at most", 0.6),
        ]
    exact = in_exact_numbers(task, args.exact)
    apart = max(abs(one - other) for one, other in zip(*(each.losses for each in exact.values()), strict=True))
    our_margin, their_margin = (each.margin for each in exact.values())
    goals += [
        Goal("float32: loss of a step apart from TRL's,", apart, "at most", 1e-3),
        Goal("float32: held-out margin apart from TRL's,", abs(our_margin - their_margin), "at most", 1e-3),
    ]
    runs = {side: asdict(each) for side, each in (outcomes | exact).items()}
    report("real_training", goals, {"sides": rows, "runs": runs})


def in_exact_numbers(task: Task, pairs: int) -> dict[str, Outcome]:
    settings = task.settings
    plain = settings.model_copy(update={"model": settings.model.model_copy(update={"dtype": "float32"})})
    small = Task(plain, task.start, real_pairs(plain, pairs))
    found = {side: run(side, small) for side in EXACT}
    told = {side: [*each.losses, each.eval_loss, each.margin] for side, each in found.items()}
    steps = [*range(1, len(next(iter(told.values()))) - 1), "loss, held out", "margin, held out"]
    rows = [{"step": step} | {side: each[n] for side, each in told.items()} for n, step in enumerate(steps)]
    show(f"Losses on {pairs} pairs in float32", rows)
    return found


if __name__ == "__main__":
    main()
