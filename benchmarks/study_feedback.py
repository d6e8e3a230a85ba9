"""What are thumbs, ratings and corrections of chats worth, beside votes on two answers?

Profile tiny, simulated people with a hidden taste the trainer never sees, v1.1 trained from v1.0 and judged by that
taste on held-out questions, against v1.0. Two of a hundred chats get feedback: six thumbs, two ratings and two
corrections of ten. Arms: votes alone (100 of them are the rival), also for no more than two epochs, since few pairs are
few steps and that alone costs much; with chats, of which DPO takes corrections; by KTO, which takes labels too; by DPO
on the pairs and then KTO on all of it, from there; chats without a vote, with steps of as many pairs as the recipe's
and, since 1,000 chats bring a dozen answers in all, with smaller ones. Whatever is too little for one step counts as
no gain. From what votes and what chats add to KTO comes how many labels are worth one pair, where that can be told.
Goals, each by one recipe: 50 votes and 1,000 chats not below 100 votes; 1,000 chats alone at least 0.62.
"""

import argparse
import json
import random
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from reporting import RESULTS, Goal, plot, report, say, show
from study_improvement import judge, summary
from voting_round import PEOPLE, World, collect, make_world, valid_pairs
from voting_round import Arm as Votes

from dpo_pipeline.core.dataset import Split, split_pairs, with_labelled
from dpo_pipeline.core.labels import trainable
from dpo_pipeline.core.questions import Question
from dpo_pipeline.core.usable_feedback import Said
from dpo_pipeline.core.votes import Preference
from dpo_pipeline.errors import DatasetTooSmall, TrainingDiverged
from dpo_pipeline.ml import train_process
from dpo_pipeline.ml.train_process import ProcessResult
from dpo_pipeline.ml.training_plan import dpo_job, write_dataset
from dpo_pipeline.reports import plots
from dpo_pipeline.simulation.people import Person, make_person, rate, satisfaction
from dpo_pipeline.stores.bank import held_out_prompts

TOLD_SHARE = 0.02
KINDS = ("thumb",) * 6 + ("rating",) * 2 + ("correction",) * 2


@dataclass(frozen=True)
class Arm:
    """What is collected, how it trains, and then once more from there, and how the questions that are voted on are
    drawn.
    """

    name: str
    votes: int
    chats: int
    recipe: dict[str, Any] = field(default_factory=dict)
    then: dict[str, Any] | None = None
    drawn: dict[str, Any] = field(default_factory=dict)


EPOCHS: dict[str, Any] = {"min_steps": 0}
KTO: dict[str, Any] = {"objective": "kto"}
RIVAL, BOTH, MORE, FEWER, MANY, CHATS = (
    "100 votes", "50 votes, 1,000 chats", "100 votes, kto", "50 votes, kto", "50 votes, 10,000 chats, kto",
    "1,000 chats, kto, 2 pairs a step",
)  # fmt: skip
ARMS = (
    Arm(RIVAL, 100, 0),
    Arm("50 votes", 50, 0),
    Arm(BOTH, 50, 1_000),
    Arm("100 votes, two epochs", 100, 0, EPOCHS),
    Arm("50 votes, two epochs", 50, 0, EPOCHS),
    Arm(MORE, 100, 0, KTO),
    Arm(FEWER, 50, 0, KTO),
    Arm("50 votes, 1,000 chats, kto", 50, 1_000, KTO),
    Arm("50 votes, 1,000 chats, dpo then kto", 50, 1_000, then=KTO),
    Arm("50 votes, 10,000 chats", 50, 10_000),
    Arm(MANY, 50, 10_000, KTO),
    Arm("50 votes, 10,000 chats, dpo then kto", 50, 10_000, then=KTO),
    Arm("1,000 chats, kto", 0, 1_000, KTO),
    Arm(CHATS, 0, 1_000, {**KTO, "batch_size": 2}),
    Arm("1,000 chats, 1 pair a step", 0, 1_000, {"batch_size": 1}),
    Arm("10,000 chats, kto", 0, 10_000, KTO),
)


def feedback(world: World, count: int, seed: int) -> list[Said]:
    """What so many people say of v1.0's answers; whoever is undecided about a thumb gives none."""
    draw = random.Random(f"chats {seed}")
    people = [make_person(f"voter-{number}", seed) for number in range(PEOPLE)]
    asked = [(draw.choice(world.asked), draw.choice(people)) for _ in range(count)]
    texts = world.answers([(question, world.start.adapter_sha) for question, _ in asked], seed + 50)
    return [
        Said(
            event_id=f"said-{seed}-{number}",
            person=person.name,
            request_id=f"chat-{number}",
            signal=signal,
            value=value,
            prompt=question.question,
            answer=text,
        )
        for number, ((question, person), text) in enumerate(zip(asked, texts, strict=True))
        for signal, value in _said(person, question, text, draw)
    ]


def _said(person: Person, question: Question, text: str, draw: random.Random) -> list[tuple[Any, int | str]]:
    stars, kind = rate(person, question, text, draw), draw.choice(KINDS)
    if kind == "rating":
        return [("rating", stars)]
    if kind == "thumb":
        return [] if stars == 3 else [("thumb", "up" if stars > 3 else "down")]
    best = max((*question.terse, *question.detailed), key=lambda known: satisfaction(person, question, known))
    return [("correction", best)]


def run(world: World, arm: Arm, seed: int) -> dict[str, float]:
    v1_0 = world.start.adapter_sha
    votes = collect(world, Votes(arm.name, **arm.drawn), v1_0, v1_0, seed, 1)[: arm.votes]
    said = feedback(world, round(arm.chats * TOLD_SHARE), seed) if arm.chats else []
    counts = {"pairs": 0.0, "labelled": 0.0}
    try:
        split, result = trained(world, arm.recipe, votes, said, seed, Path(world.start.adapter_dir))
        if arm.then is not None:
            split, result = trained(world, arm.then, votes, said, seed, Path(result.adapter_dir))
        counts = {"pairs": float(len(split.train)), "labelled": float(len(split.labelled))}
    except (DatasetTooSmall, TrainingDiverged) as error:
        say(f"{arm.name}, seed {seed}: {error}")
        return {**counts, "win_rate": 0.5, "words": 0.0}
    judged = judge(world, world.load(result), seed)
    world.generator.drop(result.adapter_sha)
    return counts | {"win_rate": judged["win_rate"], "words": judged["words"]}


def trained(
    world: World, changed: dict[str, Any], votes: Sequence[Preference], said: Sequence[Said], seed: int, start: Path
) -> tuple[Split, ProcessResult]:
    """One training on what was collected, from this adapter, which is also its reference."""
    recipe = world.settings.recipe.model_copy(update={**changed, "seed": seed})
    settings = world.settings.model_copy(update={"recipe": recipe})
    held_out, shares = held_out_prompts(settings), settings.collection.feedback_shares
    found = trainable(said, [vote for vote in votes if vote.vote == "both_bad"], held_out, settings.quality, shares)
    pairs = [*valid_pairs(votes, settings), *found.pairs]
    least = 0 if recipe.objective == "kto" else recipe.batch_size
    split = split_pairs(pairs, held_out, settings.evaluation.eval_share, least)
    if recipe.objective == "kto":
        split = with_labelled(split, found.labelled, settings.evaluation.eval_share)
    facts = {"version": "v1.1", "parent": "v1.0"}
    return split, train_process.run(dpo_job(settings, world.base, recipe, start, write_dataset(settings, split), facts))


def labels_per_pair(found: dict[str, list[dict[str, float]]]) -> float | None:
    """Labels that add as much as one pair does, all by KTO; null where the one or the other adds nothing.

    From what 50 more votes and what 10,000 chats add to 50 votes, each so many pairs and so many labels.
    """

    def mean(arm: str, figure: str) -> float:
        return statistics.fmean(row[figure] for row in found[arm])

    def gain(arm: str) -> tuple[float, float]:
        return mean(arm, "win_rate") - mean(FEWER, "win_rate"), mean(arm, "pairs") - mean(FEWER, "pairs")

    (by_votes, pairs), (by_chats, corrections) = gain(MORE), gain(MANY)
    # Votes bring labels too: those in which both answers were bad.
    more, most = (mean(arm, "labelled") - mean(FEWER, "labelled") for arm in (MORE, MANY))
    a_pair, a_label = np.linalg.solve([[pairs, more], [corrections, most]], [by_votes, by_chats])
    return float(a_pair / a_label) if a_pair > 0 and a_label > 0 else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", help="where base model and trainings are kept; default: of the settings")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--samples", type=int, default=4, help="answers per held-out question and version")
    parser.add_argument("--plot", action="store_true", help="only draw results/feedback.json again")
    args = parser.parse_args()
    if args.plot:
        draw_arms("feedback", json.loads((RESULTS / "feedback.json").read_text())["measured"]["arms"], 3.4)
        return
    world = make_world(args.data_dir, args.samples)
    found: dict[str, list[dict[str, float]]] = {}
    for arm in ARMS:
        found[arm.name] = [run(world, arm, seed) for seed in range(args.seeds)]
        say(f"{arm.name}: {', '.join(format(row['win_rate'], '.3f') for row in found[arm.name])}")
    show(f"Win rate over v1.0 by hidden taste, {args.seeds} seeds", [arm_row(*each) for each in found.items()])
    rate_found = labels_per_pair(found)
    say("labels worth one pair: " + ("not measurable" if rate_found is None else f"{rate_found:.1f}"))
    means = {name: summary([row["win_rate"] for row in rows])[0] for name, rows in found.items()}
    goals = [
        Goal("50 votes and 1,000 chats over 100 votes", means[BOTH] - means[RIVAL], "at least", 0),
        Goal("the same by kto", means["50 votes, 1,000 chats, kto"] - means[MORE], "at least", 0),
        Goal("1,000 chats alone", means[CHATS], "at least", 0.62),
    ]
    report("feedback", goals, {"labels_per_pair": rate_found, "arms": found})
    draw_arms("feedback", found, 3.4)


def arm_row(name: str, rows: Sequence[dict[str, float]]) -> dict[str, Any]:
    mean, half = summary([row["win_rate"] for row in rows])
    told = {figure: statistics.fmean(row[figure] for row in rows) for figure in ("pairs", "labelled", "words")}
    return {"arm": name, "win rate": f"{mean:.3f} ± {half:.3f}", **told}


def draw_arms(study: str, found: dict[str, list[dict[str, float]]], height: float) -> None:
    """Write `results/<study>.svg`, so many inches high: each arm with its interval."""
    intervals = {}
    for name, rows in found.items():
        mean, half = summary([row["win_rate"] for row in rows])
        intervals[name] = (mean, max(mean - half, 0.0), min(mean + half, 1.0))
    plot(study, plots.svg(plots.intervals(intervals, label="win rate over v1.0, hidden taste"), 7.0, height))


if __name__ == "__main__":
    main()
