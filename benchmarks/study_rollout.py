"""Can teams of any size roll versions out: is a good one promoted, a bad one kept back, and how sure is that?

Rollouts on a simulated clock, decided by the real `core.rollout.decide` with the default policy, for audiences from
five people to twenty thousand, looked at every six hours (`dpo_pipeline.simulation.rollouts`; people ask in
conversations and have habits: one in twenty asks four times as often as usual). Requests a day: 20 a person up to 40
people, 4,000 in all for 200 and 1,000, 20,000 for 20,000. Votes a day: 25 up to 40 people, then 100, 200 and 500. 30 %
of answers are rated; the champion fails 1 % of its requests.

The rival of "3 % errors" is the best test of fixed size: once, at 5 %, of the hypothesis that the error ratio is at
most what the policy allows, with all requests that a whole rollout would have seen.
"""

import argparse
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from reporting import Goal, plot, report, say, show
from scipy.stats import binom

from dpo_pipeline.reports import plots
from dpo_pipeline.settings import RolloutPolicy
from dpo_pipeline.simulation.audience import World
from dpo_pipeline.simulation.rollouts import Played, play, shares

# People: (requests a day, votes a day).
AUDIENCES = {
    5: (100, 25), 8: (160, 25), 12: (240, 25), 40: (800, 25), 200: (4_000, 100), 1_000: (4_000, 200),
    20_000: (20_000, 500),
}  # fmt: skip
SCHEDULE_DAYS, WITHIN_DAYS = 6.0, 14.0
POLICIES = {"default": RolloutPolicy(), "without shadow copies": RolloutPolicy(shadow_copies_a_day=0)}


@dataclass(frozen=True)
class Case:
    """A kind of version, by what differs from an identical one."""

    name: str
    changes: dict[str, Any]
    policy: str = "default"


CASES = (
    Case("identical, A/B given", {}),
    Case("identical, with its A/B test", {"win_rate": 0.5}),
    Case("wins 75 %", {"win_rate": 0.75}),
    Case("wins 65 %", {"win_rate": 0.65}),
    Case("wins 60 %", {"win_rate": 0.60}),
    Case("one loud voter", {"win_rate": 0.5, "loud_voter": 5.0}),
    Case("20 % errors", {"new_errors": 0.20}),
    Case("20 % errors, no shadow copies", {"new_errors": 0.20}, "without shadow copies"),
    Case("3 % errors", {"new_errors": 0.03}),
    Case("10 % less satisfaction, wins 40 %", {"win_rate": 0.40, "satisfaction_shift": 0.1}),
    Case("outage of both, 20 % errors", {"errors": 0.20, "new_errors": 0.20}),
    Case("identical, errors in one person of twenty", {"heaps": "person"}),
    Case("identical, errors in one hour of fifty", {"heaps": "hour"}),
)


def one(case: Case, people: int, seed: int, number: int) -> Played:
    requests, votes = AUDIENCES[people]
    world = World(people, requests, votes, **case.changes)
    return play(world, POLICIES[case.policy], np.random.default_rng([seed, people, number]))


def goals_of(case: str, people: int, runs: list[Played], identical: list[Played]) -> Iterator[Goal]:
    """What is asked of a cell."""
    found, title = shares(runs), f"{case}, {people:,} people:"
    if case == "identical, A/B given":
        yield Goal(f"{title} reached full", found["reached_full"], "at least", 0.95)
        yield Goal(f"{title} days to full, median", found["days_to_full"] or 999.0, "at most", 1.5 * SCHEDULE_DAYS)
        yield Goal(f"{title} rolled back for harm", found["rolled_back_for_harm"], "at most", 0.05)
    elif case in ("identical, with its A/B test", "one loud voter"):
        yield Goal(f"{title} won the A/B test", found["won_ab"], "at most", 0.05)
    elif case.startswith("wins"):
        share, most = {"wins 75 %": (0.95, 60), "wins 65 %": (0.90, 160), "wins 60 %": (0.60, 300)}[case]
        passed = sum(run.won_ab and passed_staging_in_time(run, people) for run in runs) / len(runs)
        yield Goal(f"{title} passed staging within 14 days", passed, "at least", share)
        yield Goal(f"{title} votes to win, median", found["votes_to_win"] or 9999, "at most", most)
    elif case.startswith("20 % errors"):
        yield Goal(f"{title} out before full", 1 - found["reached_full"], "at least", 0.99)
        most = 3 if "no shadow" in case else 0
        yield Goal(f"{title} people who met an error, median", found["people_who_met_an_error"], "at most", most)
    elif case == "3 % errors":
        power = fixed_sample_power(identical)
        yield Goal(f"{title} out before full", 1 - found["reached_full"], "at least", round(power - 0.15, 3))
    elif case.startswith("10 % less"):
        reached = sum(run.stage in ("half", "full") for run in runs) / len(runs)
        yield Goal(f"{title} reached half", reached, "at most", 0.05)
    else:
        yield Goal(f"{title} rolled back for harm", found["rolled_back_for_harm"], "at most", 0.05)


def passed_staging_in_time(run: Played, people: int) -> bool:
    """Votes come at an even pace, so their number tells the day."""
    return run.votes <= AUDIENCES[people][1] * WITHIN_DAYS


def fixed_sample_power(identical: list[Played], draws: int = 4000) -> float:
    """Of the best test of the ratio that looks once, at 5 %, at the requests of a whole rollout (medians)."""
    full = [run for run in identical if run.stage == "full"] or identical
    new = int(np.median([run.requests for run in full]))
    control = int(np.median([run.control_requests for run in full]))
    ratio = POLICIES["default"].max_error_ratio
    share = new * ratio / (new * ratio + control)
    draw = np.random.default_rng(0)
    bad, usual = draw.binomial(new, 0.03, draws), draw.binomial(control, 0.01, draws)
    return float((binom.sf(bad - 1, bad + usual, share) <= 0.05).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--people", type=int, nargs="*", default=list(AUDIENCES))
    args = parser.parse_args()
    cells: dict[tuple[str, int], list[Played]] = {}
    with ProcessPoolExecutor(2) as pool:
        for people in args.people:
            for case in CASES:
                cells[case.name, people] = list(
                    pool.map(partial(one, case, people, args.seed), range(args.runs), chunksize=10)
                )
            say(f"{people:,} people: done")
    rows = [
        {"version": case, "people": people, **{k: v for k, v in shares(runs).items() if k not in ("by_stage", "runs")}}
        for (case, people), runs in cells.items()
    ]
    show(f"{args.runs} rollouts a row, default policy", rows)
    goals = [
        goal
        for (case, people), runs in cells.items()
        for goal in goals_of(case, people, runs, cells["identical, A/B given", people])
    ]
    draw_plot(cells, args.people)
    report("rollout", goals, {"rollouts each": args.runs, "rows": rows})


def draw_plot(cells: dict[tuple[str, int], list[Played]], audiences: list[int]) -> None:
    """Share that reaches full traffic, by audience."""
    shown = ("identical, A/B given", "wins 75 %", "wins 65 %", "wins 60 %", "3 % errors", "20 % errors")

    def draw(axes: Any) -> None:
        for case in shown:
            reached = [shares(cells[case, people])["reached_full"] for people in audiences]
            axes.plot(audiences, reached, marker="o", label=case)
        axes.set_xscale("log")
        axes.set_xticks(audiences, [f"{people:,}" for people in audiences])
        axes.set_xlabel("people who use the model")
        axes.set_ylabel("share that reaches full traffic")
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)

    plot("rollout", plots.svg(draw, width=9.0, height=4.0))


if __name__ == "__main__":
    main()
