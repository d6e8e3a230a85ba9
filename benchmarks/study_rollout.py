"""How often is a harmless version taken back, and how soon a harmful one, by our rules and by the literal ones?

Simulated rollouts on a simulated clock, looked at once an hour as the sensor does: people send requests, some of which
fail, and some rate them. An identical version (A/A), one with 20 % errors, one whose satisfaction is 10 % lower, and an
identical one in an outage that gives both 20 % errors go through the same stages. Ours is `core.rollout.decide`; the
literal side promotes when the hours are over and takes back as soon as one of the user's rules holds on point
estimates.

Goals: of 200 identical versions at most 5 % taken back, be it for harm or because nothing was decided in time, and at
most 5 % win an A/B test; 20 % errors are out within 500 canary requests at the median; 10 % lower satisfaction reaches
half of the traffic in at most 5 %; the outage takes back at most 5 % for harm.
"""

import argparse
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from reporting import Goal, report, say, show

from dpo_pipeline.core.harm import Events, Opinions, Shares
from dpo_pipeline.core.rollout import (
    STAGES,
    Evidence,
    Metrics,
    People,
    RolloutDecision,
    ab_win_rates,
    decide,
    next_stage,
    should_rollback,
    stage_policy,
)
from dpo_pipeline.core.winrate import Outcome, win_rate
from dpo_pipeline.settings import RolloutPolicy

PEOPLE, REQUESTS_AN_HOUR, RATED = 20_000, 400, 0.3
RATINGS = np.array([1, 2, 3, 4, 5])
USUAL = np.array([0.04, 0.08, 0.18, 0.35, 0.35])


@dataclass(frozen=True)
class World:
    """What both versions do; `shift` lowers the new version's ratings."""

    errors: float = 0.01
    new_errors: float = 0.01
    shift: float = 0.0


WORLDS = {
    "identical": World(),
    "20 % errors": World(new_errors=0.20),
    "satisfaction 10 % lower": World(shift=0.1),
    "20 % errors of both": World(errors=0.20, new_errors=0.20),
}


class Arm:
    """A version's people in one stage, by number."""

    def __init__(self) -> None:
        self.requests = self.errors = 0
        self.met: dict[int, list[int]] = {}
        self.ratings: dict[int, list[int]] = {}

    def add(self, person: int, failed: bool, rating: int | None) -> None:
        self.requests += 1
        self.errors += failed
        counts = self.met.setdefault(person, [0, 0])
        counts[0] += 1
        counts[1] += failed
        if rating is not None:
            self.ratings.setdefault(person, []).append(rating)

    def opinions(self) -> Opinions:
        means = [statistics.fmean(mine) for mine in self.ratings.values()]
        if not means:
            return Opinions()
        return Opinions(len(means), statistics.fmean(means), statistics.variance(means) if len(means) > 1 else 0.0)

    def metrics(self) -> Metrics:
        opinions = self.opinions()
        rated = sum(map(len, self.ratings.values()))
        return Metrics(self.requests, self.errors, 0, 300.0, rated, opinions.mean if opinions.people else None)

    def failed_people(self) -> int:
        return sum(failed > 0 for _, failed in self.met.values())


def literal(evidence: Evidence, policy: RolloutPolicy) -> RolloutDecision:
    """The user's rules as they read, on point estimates."""
    stage = stage_policy(evidence.stage, policy)
    new, baseline = evidence.new, evidence.baseline
    bad = should_rollback(new, baseline, policy)
    if stage.max_error_rate is not None and new.error_rate is not None and new.error_rate > stage.max_error_rate:
        bad.append("error rate of the stage")
    if new.satisfaction is not None and baseline.satisfaction is not None and new.satisfaction < baseline.satisfaction:
        bad.append("satisfaction")
    if bad:
        return RolloutDecision("rollback", tuple(bad))
    waits = evidence.hours < stage.hours or new.requests == 0
    return RolloutDecision("hold" if waits else "promote", ())


def rollout(
    world: World, draw: np.random.Generator, policy: RolloutPolicy, judge: Callable[..., RolloutDecision]
) -> dict[str, Any]:
    """One version from canary on: where it ended, why, and after how many of its requests."""
    places = draw.random(PEOPLE)
    stage, spent = "canary", 0
    while True:
        traffic = stage_policy(stage, policy).traffic
        new, control, hours = Arm(), Arm(), 0
        decision = RolloutDecision("hold", ())
        while decision.decision == "hold":
            hours += 1
            _hour(world, draw, places, traffic, new, control)
            decision = judge(_evidence(stage, hours, new, control), policy)
        spent += new.requests
        if decision.decision == "rollback":
            harmful = decision.reasons[0] == "evidence of harm" or judge is literal
            return {"reached": stage, "taken back": True, "for harm": harmful, "requests": spent}
        following = next_stage(stage)
        if following == "full":
            return {"reached": "full", "taken back": False, "for harm": False, "requests": spent}
        assert following
        stage = following


def _hour(world: World, draw: np.random.Generator, places: Any, traffic: float, new: Arm, control: Arm) -> None:
    for person in draw.integers(0, PEOPLE, REQUESTS_AN_HOUR):
        place = places[person]
        if place < traffic:
            arm, errors, shift = new, world.new_errors, world.shift
        elif place >= max(1 - traffic, traffic):
            arm, errors, shift = control, world.errors, 0.0
        else:
            continue
        rating = None
        if draw.random() < RATED:
            rating = int(draw.choice(RATINGS, p=USUAL))
            # One step down with the chance that lowers the mean by `shift` of itself.
            if shift and rating > 1 and draw.random() < shift * float(RATINGS @ USUAL) / (1 - USUAL[0]):
                rating -= 1
        arm.add(int(person), bool(draw.random() < errors), rating)


def _evidence(stage: str, hours: int, new: Arm, control: Arm) -> Evidence:
    people = People(
        new=len(new.met),
        control=len(control.met),
        bad=Events(len(new.met), new.failed_people(), len(control.met), control.failed_people()),
        errors=Shares(len(new.met), sum(failed / sent for sent, failed in new.met.values())),
        crashes=Shares(len(new.met), 0.0),
        slow=Shares(len(new.met), 0.0),
        control_errors=Shares(len(control.met), sum(failed / sent for sent, failed in control.met.values())),
        opinions=new.opinions(),
        control_opinions=control.opinions(),
    )
    return Evidence(stage, float(hours), win_rate([]), new.metrics(), control.metrics(), people)


def ab_tests(runs: int, draw: np.random.Generator, policy: RolloutPolicy) -> float:
    """Share of identical versions that win their A/B test, looked at after every tenth vote of 600 by 200 people."""
    won = 0
    for _ in range(runs):
        votes: list[tuple[str, Outcome]] = []
        for _ in range(60):
            for person in draw.integers(0, 200, 10):
                votes.append((f"p{person}", "win" if draw.random() < 0.5 else "loss"))
            ab, without = ab_win_rates(votes, policy)
            decision = decide(Evidence("staging", 1.0, ab, ab_without=without), policy)
            if decision.decision != "hold":
                won += decision.decision == "promote"
                break
    return won / runs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    policy = RolloutPolicy()
    rows, found = [], {}
    for name, world in WORLDS.items():
        for side, judge in (("evidence", decide), ("literal rules", literal)):
            draw = np.random.default_rng(args.seed)
            runs = [rollout(world, draw, policy, judge) for _ in range(args.runs)]
            found[name, side] = runs
            rows.append({"version": name, "side": side, **_shares(runs)})
            say(f"{name}, {side}: done")
    false_wins = ab_tests(args.runs, np.random.default_rng(args.seed + 1), policy)
    show(f"{args.runs} simulated rollouts, {REQUESTS_AN_HOUR} requests an hour by {PEOPLE:,} people", rows)
    aa, errors, dim, outage = (found[name, "evidence"] for name in WORLDS)
    goals = [
        Goal("identical versions taken back", _share(aa, "taken back"), "at most", policy.harm_alpha),
        Goal("identical versions that win an A/B test", false_wins, "at most", policy.ab_alpha),
        Goal(
            "requests until 20 % errors are out, median",
            statistics.median(r["requests"] for r in errors),
            "at most",
            500,
        ),
        Goal("taken back for an outage that hits both", _share(outage, "for harm"), "at most", policy.harm_alpha),
        Goal("10 % lower satisfaction at half of the traffic", _reached(dim, "half"), "at most", policy.no_harm_alpha),
    ]
    report(
        "rollout",
        goals,
        {"rollouts each": args.runs, "rows": rows, "identical versions that win an A/B test": false_wins},
    )


def _shares(runs: list[dict[str, Any]]) -> dict[str, float]:
    return {
        "taken back for harm": _share(runs, "for harm"),
        "taken back": _share(runs, "taken back"),
        "reached half": _reached(runs, "half"),
        "reached full": _reached(runs, "full"),
        "requests, median": float(statistics.median(run["requests"] for run in runs)),
    }


def _share(runs: list[dict[str, Any]], name: str) -> float:
    return sum(bool(run[name]) for run in runs) / len(runs)


def _reached(runs: list[dict[str, Any]], stage: str) -> float:
    return sum(STAGES.index(run["reached"]) >= STAGES.index(stage) for run in runs) / len(runs)


if __name__ == "__main__":
    main()
