"""Does a vote teach more where questions are drawn by what a vote tells (`collection.worth_share`), than drawn evenly?

Profile tiny, simulated people with a hidden taste, v1.1 trained from v1.0 on 100 and on 50 votes and judged by that
taste on held-out questions, against v1.0. All questions that may be asked stand for what production asks; they are of
eleven kinds. Arms: drawn evenly, which is the rival; four of five by what a vote tells; and, for comparison, of the
category covered least, as the bank is asked. Both train 20 steps at least, since few pairs are few steps. Goal: not
below the rival at either number of votes; where it is within the intervals, even stays the default.
"""

import argparse
import statistics
from typing import Any

from reporting import Goal, report, say, show
from study_feedback import Arm, arm_row, draw_arms, run
from voting_round import make_world

DRAWN: dict[str, dict[str, Any]] = {
    "drawn evenly": {"uniform": True},
    "by what a vote tells": {"worth_share": 0.8},
    "category covered least": {},
}
RIVAL, OURS = list(DRAWN)[:2]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", help="where base model and trainings are kept; default: of the settings")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--samples", type=int, default=4, help="answers per held-out question and version")
    args = parser.parse_args()
    world = make_world(args.data_dir, args.samples)
    arms = [Arm(f"{votes} votes, {how}", votes, 0, drawn=drawn) for votes in (100, 50) for how, drawn in DRAWN.items()]
    found: dict[str, list[dict[str, float]]] = {}
    for arm in arms:
        found[arm.name] = [run(world, arm, seed) for seed in range(args.seeds)]
        say(f"{arm.name}: {', '.join(format(row['win_rate'], '.3f') for row in found[arm.name])}")
    show(f"Win rate over v1.0 by hidden taste, {args.seeds} seeds", [arm_row(*each) for each in found.items()])
    means = {name: statistics.fmean(run["win_rate"] for run in runs) for name, runs in found.items()}
    goals = [
        Goal(
            f"over the even draw, {votes} votes",
            means[f"{votes} votes, {OURS}"] - means[f"{votes} votes, {RIVAL}"],
            "at least",
            0,
        )
        for votes in (100, 50)
    ]
    report("prompt_choice", goals, {"arms": found})
    draw_arms("prompt_choice", found, 2.6)


if __name__ == "__main__":
    main()
