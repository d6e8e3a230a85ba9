"""Does the loop make the model better for the people who vote, round after round, and how much of what is reachable?

Three rounds of 100 votes by simulated people, for several seeds, with what the loop itself uses: quality criteria,
the split, DPO training, mixed batches. Votes are given as in a rollout: half between the newest version
and its parent as production answers, half between two warmer samples of the newest. Every version is then judged
against v1.0 on the held-out questions, both as production answers, by the people's hidden taste, without their noise,
which neither training nor the judge of the loop ever sees. The ceiling is the bank's best answer, always. Rivals: plain
TRL defaults with questions drawn uniformly, and every arm of the ablation, one change each.

Goals: v1.1, v1.2 and v1.3 at 0.70, 0.75 and 0.80; 90 % of the gain that is reachable.
"""

import argparse
import json
import math
import random
import statistics
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from reporting import RESULTS, Goal, plot, report, say, show
from voting_round import Arm, World, collect, make_world, valid_pairs

from dpo_pipeline.core.dataset import Pair, split_pairs
from dpo_pipeline.core.questions import Question
from dpo_pipeline.core.votes import Preference
from dpo_pipeline.core.winrate import student_t
from dpo_pipeline.errors import DatasetTooSmall, TrainingDiverged
from dpo_pipeline.ml import train_process
from dpo_pipeline.ml.training_plan import dpo_job, write_dataset
from dpo_pipeline.reports import plots
from dpo_pipeline.settings import Settings
from dpo_pipeline.simulation.people import Person, make_person, rate, satisfaction
from dpo_pipeline.stores.bank import held_out_prompts

ROUNDS = 3
GOALS = (0.70, 0.75, 0.80)
RIVAL = "plain TRL, uniform questions"
TRL_DEFAULTS = {
    "loss_type": ("sigmoid",),
    "loss_weights": None,
    "learning_rate": 1e-6,
    "epochs": 3,
    "min_steps": 0,
    "batch_size": 8,
    "warmup_share": 0.0,
    "beta": 0.1,
}


ARMS = (
    Arm("default"),
    Arm("without more_detailed", quality={"more_detailed": False}),
    Arm(RIVAL, recipe=TRL_DEFAULTS, quality={"more_detailed": False}, uniform=True),
    Arm("answers at temperature 0.1", generation={"temperature": 0.1}),
    Arm("answers at temperature 0.3", generation={"temperature": 0.3}),
    Arm("answers at temperature 0.9", generation={"temperature": 0.9}),
    Arm("three epochs", recipe={"epochs": 3}),
    Arm("no least number of steps", recipe={"min_steps": 0}),
    Arm("parent, all pairs", recipe={"start_from": "parent"}),
    Arm("parent, new pairs", recipe={"start_from": "parent", "pairs": "new"}),
    Arm("beta 0.05", recipe={"beta": 0.05}),
    Arm("beta 0.3", recipe={"beta": 0.3}),
    Arm("twice the learning rate", recipe={"learning_rate": 2e-3}),
    Arm("sigmoid + 0.2 sft", recipe={"loss_weights": (1.0, 0.2)}),
    Arm("sigmoid alone", recipe={"loss_type": ("sigmoid",), "loss_weights": None}),
    Arm("sigmoid_norm", recipe={"loss_type": ("sigmoid_norm",), "loss_weights": None}),
)


def run_arm(world: World, arm: Arm, seed: int) -> list[dict[str, float]]:
    """One row a round."""
    settings = world.settings.model_copy(
        update={
            "recipe": world.settings.recipe.model_copy(update={**arm.recipe, "seed": seed}),
            "quality": world.settings.quality.model_copy(update=arm.quality),
            "generation": world.settings.generation.model_copy(update=arm.generation),
        }
    )
    world = replace(world, settings=settings)
    versions = [world.start]
    votes: list[Preference] = []
    rows = []
    for turn in range(1, ROUNDS + 1):
        newest, parent = versions[-1], versions[-2] if len(versions) > 1 else versions[-1]
        fresh = collect(world, arm, world.load(newest), world.load(parent), seed, turn)
        votes += fresh
        pairs = valid_pairs(fresh if settings.recipe.pairs == "new" else votes, settings)
        try:
            versions.append(_train(world, settings, versions, pairs, turn))
        except (DatasetTooSmall, TrainingDiverged) as error:
            say(f"{arm.name}, seed {seed}, round {turn}: {error}")
            versions.append(newest)
        rows.append({"pairs": float(len(pairs)), **judge(world, world.load(versions[-1]), seed)})
        for gone in world.generator.loaded - {version.adapter_sha for version in versions[-2:]}:
            if gone != world.start.adapter_sha:
                world.generator.drop(gone)
    return rows


def _train(
    world: World, settings: Settings, versions: list[train_process.ProcessResult], pairs: list[Pair], turn: int
) -> train_process.ProcessResult:
    recipe = settings.recipe
    split = split_pairs(pairs, held_out_prompts(settings), settings.evaluation.eval_share, recipe.batch_size)
    start = versions[-1] if recipe.start_from == "parent" else versions[0]
    facts = {"version": f"v1.{turn}", "parent": f"v1.{turn - 1}"}
    job = dpo_job(settings, world.base, recipe, Path(start.adapter_dir), write_dataset(settings, split), facts)
    return train_process.run(job)


def judge(world: World, adapter: str, seed: int) -> dict[str, float]:
    """Against v1.0 on the held-out questions, by the hidden taste of twenty of the people, without noise."""
    wanted = [
        (question, name)
        for question in world.held_out
        for _ in range(world.samples)
        for name in (adapter, world.start.adapter_sha)
    ]
    texts = world.answers(wanted, 7)
    people = [make_person(f"voter-{number}", seed) for number in range(20)]
    shares, likes = [], []
    draw = random.Random(seed)
    for number in range(0, len(texts), 2):
        question = wanted[number][0]
        shares += [_share(person, question, texts[number], texts[number + 1]) for person in people]
        likes += [rate(person, question, texts[number], draw) for person in people[:5]]
    return {
        "win_rate": statistics.fmean(shares),
        "satisfaction": statistics.fmean(likes),
        "words": statistics.fmean(len(text.split()) for text in texts[::2]),
    }


def _share(person: Person, question: Question, ours: str, other: str) -> float:
    difference = satisfaction(person, question, ours) - satisfaction(person, question, other)
    return 0.5 if abs(difference) < person.tie_band else float(difference > 0)


def ceiling(world: World) -> dict[str, float]:
    """The bank's best answer for each person and question, against v1.0."""
    wanted = [(question, world.start.adapter_sha) for question in world.held_out for _ in range(world.samples)]
    texts = world.answers(wanted, 7)
    people = [make_person(f"voter-{number}", 0) for number in range(20)]
    shares, likes, draw = [], [], random.Random(0)
    for (question, _), text in zip(wanted, texts, strict=True):
        for person in people:
            best = max((*question.terse, *question.detailed), key=lambda known: satisfaction(person, question, known))
            shares.append(_share(person, question, best, text))
            likes.append(rate(person, question, best, draw))
    baseline_likes = [
        rate(person, question, text, draw)
        for (question, _), text in zip(wanted, texts, strict=True)
        for person in people[:5]
    ]
    return {
        "win_rate": statistics.fmean(shares),
        "satisfaction": statistics.fmean(likes),
        "satisfaction of v1.0": statistics.fmean(baseline_likes),
        "words of v1.0": statistics.fmean(len(text.split()) for text in texts),
    }


def run(data_dir: str | None, samples: int, arm: Arm, seed: int) -> list[dict[str, float]]:
    """`run_arm` in a process of its own: a model of a million parameters gains little by a second thread."""
    torch.set_num_threads(1)
    return run_arm(make_world(data_dir, samples), arm, seed)


def summary(rows: Sequence[float]) -> tuple[float, float]:
    """Mean over seeds and half the width of its 95 % interval (Student)."""
    if len(rows) < 2:
        return rows[0], math.nan
    return statistics.fmean(rows), student_t(0.05, len(rows) - 1) * statistics.stdev(rows) / math.sqrt(len(rows))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", help="where base model and trainings are kept; default: of the settings")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--samples", type=int, default=4, help="answers per held-out question and version")
    parser.add_argument("--arms", nargs="*", default=[arm.name for arm in ARMS])
    parser.add_argument("--plot", action="store_true", help="only draw results/improvement.json again")
    args = parser.parse_args()
    if args.plot:
        measured = json.loads((RESULTS / "improvement.json").read_text())["measured"]
        _plot(measured["arms"], measured["ceiling"])
        return
    world = make_world(args.data_dir, args.samples)
    top = ceiling(world)
    say(f"{len(world.held_out)} held-out questions; ceiling {top['win_rate']:.3f}")
    found: dict[str, list[list[dict[str, float]]]] = {arm.name: [] for arm in ARMS if arm.name in args.arms}
    runs = [(arm, seed) for arm in ARMS if arm.name in found for seed in range(args.seeds)]
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        each = pool.map(partial(run, args.data_dir, args.samples), *zip(*runs, strict=True))
        for (arm, seed), rows in zip(runs, each, strict=True):
            found[arm.name].append(rows)
            say(f"{arm.name}, seed {seed}: {[round(row['win_rate'], 3) for row in rows]}")
    tables = [_row(name, runs) for name, runs in found.items()]
    show(f"Win rate over v1.0 by hidden taste, {args.seeds} seeds; the ceiling is {top['win_rate']:.3f}", tables)
    _report(found, top)
    _plot(found, top)


def _row(name: str, runs: list[list[dict[str, float]]]) -> dict[str, Any]:
    row: dict[str, Any] = {"arm": name}
    for turn in range(ROUNDS):
        mean, half = summary([run[turn]["win_rate"] for run in runs])
        row[f"v1.{turn + 1}"] = f"{mean:.3f} ± {half:.3f}"
    for figure in ("satisfaction", "words", "pairs"):
        row[figure] = statistics.fmean(run[-1][figure] for run in runs)
    return row


def _report(found: dict[str, list[list[dict[str, float]]]], top: dict[str, float]) -> None:
    default = found.get("default")
    if default is None:
        return
    means = [summary([run[turn]["win_rate"] for run in default])[0] for turn in range(ROUNDS)]
    goals = [
        Goal(f"win rate of v1.{turn + 1} over v1.0", mean, "at least", goal)
        for turn, (mean, goal) in enumerate(zip(means, GOALS, strict=True))
    ]
    goals.append(Goal("share of the reachable gain", (means[-1] - 0.5) / (top["win_rate"] - 0.5), "at least", 0.9))
    report("improvement", goals, {"ceiling": top, "arms": found})


def _plot(found: dict[str, list[list[dict[str, float]]]], top: dict[str, float]) -> None:
    """Write `results/improvement.svg`: every arm's way, the default's with its interval, goals and ceiling."""
    rounds = range(1, ROUNDS + 1)

    def draw(axes: Any) -> None:
        for name, runs in found.items():
            ways = [summary([run[turn]["win_rate"] for run in runs]) for turn in range(ROUNDS)]
            color = {"default": plots.BLUE, RIVAL: plots.ORANGE}.get(name, plots.GREY)
            main = color != plots.GREY
            axes.errorbar(
                rounds, [mean for mean, _ in ways], yerr=[half for _, half in ways] if main else None, color=color,
                marker="o" if main else None, linewidth=2 if main else 1, capsize=3, zorder=2 if main else 1,
                label=name if main else None,
            )  # fmt: skip
        axes.plot([], [], color=plots.GREY, label="one change to the default each")
        axes.plot(rounds, GOALS, "_", color=plots.INK, markersize=22, label="goal")
        axes.axhline(top["win_rate"], color=plots.INK, linewidth=1, linestyle=":", label="ceiling: the bank's best")
        axes.set_xticks(rounds, [f"v1.{turn}" for turn in rounds])
        axes.set_xlim(0.8, ROUNDS + 0.2)
        axes.set_ylim(0.45, 1.0)
        axes.set_ylabel("win rate over v1.0, hidden taste")
        axes.legend(frameon=False, fontsize=8, loc="lower right", bbox_to_anchor=(1, 0.13))

    plot("improvement", plots.svg(draw, 7.0, 4.5))


if __name__ == "__main__":
    main()
