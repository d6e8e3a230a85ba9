"""How far can any training on the bank take the tiny model, judged as `study_improvement` judges?

Its ceiling is the bank's best answer, which a million parameters cannot always say. Here the same base model is tuned
on the bank's own detailed answers instead, by the recipe of v1.0: once of the questions that people may be asked, once
of all questions, those included that versions are judged on. No version that learned from votes can be expected to do
better than the second. There is no goal and no rival: it says what the figures of that study are to be read against.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from reporting import report, say, show
from study_improvement import judge
from voting_round import World, make_world

from dpo_pipeline.core.questions import Question
from dpo_pipeline.ml.sft import SftJob, demonstration, train_sft
from dpo_pipeline.stores import artifacts
from dpo_pipeline.stores.bank import read_bank

LEARNED = 2
"""Of each question's detailed answers the base model has learned so many."""


def tuned(world: World, questions: Sequence[Question], directory: Path) -> str:
    """The sha256 of an adapter that is tuned on the detailed answers to these questions, and loaded."""
    directory.mkdir(parents=True, exist_ok=True)
    rows = [demonstration(question, answer) for question in questions for answer in question.detailed[:LEARNED]]
    job = SftJob(world.base, world.settings.sft, world.settings.model, directory)
    facts, _ = train_sft(job, rows, directory, lambda *_: None)
    sha = str(artifacts.write_manifest(directory, facts)["sha256"])
    world.generator.load(sha, directory)
    return sha


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", help="where base model and trainings are kept; default: of the settings")
    parser.add_argument("--samples", type=int, default=4, help="answers per held-out question and version")
    args = parser.parse_args()
    world = make_world(args.data_dir, args.samples)
    work, bank = world.settings.training_dir / "model-ceiling", read_bank(world.settings.bank_dir)
    found = {"v1.0 against itself": judge(world, world.start.adapter_sha, 0)}
    for name, questions in (
        ("tuned on questions that are asked", world.asked), ("tuned on all questions", bank)
    ):  # fmt: skip
        found[name] = judge(world, tuned(world, questions, work / name.replace(" ", "-")), 0)
        say(f"{name}: {found[name]['win_rate']:.3f}")
    show("Over v1.0, by hidden taste, on held-out questions", [{"adapter": name, **row} for name, row in found.items()])
    report("model_ceiling", [], found)


if __name__ == "__main__":
    main()
