"""Rollouts on a simulated clock, decided by the real `core.rollout.decide`: what an audience's rollouts come to.

People have habits: some ask and vote ten times as often as others, they ask in conversations, and where the world says
so, errors come in heaps. Nothing here reads a log or a ledger.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np

from dpo_pipeline.core.ab_test import read_votes
from dpo_pipeline.core.exposure import RolloutPlan, plan_rollout
from dpo_pipeline.core.rollout import HARM, STAGES, Evidence, Exposure, decide, next_stage, traffic_of
from dpo_pipeline.core.winrate import Outcome
from dpo_pipeline.settings import RolloutPolicy
from dpo_pipeline.simulation.audience import CONVERSATION, SimulatedPeople, StageRecord, World

LOOK_EVERY_H, SOONEST_H, APART = 6.0, 0.25, 3.0
"""Hours between two looks; at first they come with the requests, in staging with the votes, so many of them apart."""
FIRST_H, FIRST_VOTES = 24.0, 400


@dataclass(frozen=True)
class Played:
    """How one rollout went. `stage` is where it ended; `errors_met`: people whom the new version failed."""

    stage: str
    won_ab: bool
    rolled_back: bool
    for_harm: bool
    asked: bool
    days: float
    votes: int
    requests: int
    control_requests: int
    errors_met: int
    reason: str


def play(world: World, policy: RolloutPolicy, draw: np.random.Generator) -> Played:
    """One rollout, from staging to full traffic or to where it is rolled back."""
    plan = plan_rollout(policy, world.audience)
    crowd = SimulatedPeople(world, draw)
    votes: list[tuple[str, Outcome]] = []
    earlier: tuple[Exposure, ...] = ()
    name, clock, spent, control_spent, won = STAGES[0], 0.0, 0, 0, world.win_rate is None
    errors_met: set[int] = set()
    while True:
        stage, hours = StageRecord(plan.unit, traffic_of(name, policy)), 0.0
        while True:
            passed = _until_next_look(world, stage.traffic, hours)
            hours += passed
            errors_met |= _ask(crowd, world, plan, stage, clock + hours, passed)
            if name == STAGES[0] and not won:
                votes += crowd.votes(passed)
            met, new, control = stage.exposure()
            ab = read_votes(votes, policy, plan.audience) if name == STAGES[0] and not won else None
            given = won and (world.win_rate is None or name != STAGES[0])
            decision = decide(Evidence(name, hours, ab, new, control, met, earlier, given), plan)
            if decision.decision != "hold" or decision.asks:
                break
        clock += hours
        spent, control_spent = spent + new.requests, control_spent + control.requests
        following = next_stage(name)
        if decision.decision == "promote" and name == STAGES[0]:
            won = True
        over = decision.decision != "promote" or following == STAGES[-1]
        if over or following is None:
            return Played(
                stage=STAGES[-1] if decision.decision == "promote" else name,
                won_ab=won,
                rolled_back=decision.decision == "rollback",
                for_harm=decision.reasons[0] == HARM,
                asked=decision.asks,
                days=clock / 24,
                votes=len(votes),
                requests=spent,
                control_requests=control_spent,
                errors_met=len(errors_met),
                reason=decision.reasons[0],
            )
        earlier, name = (*earlier, met), following


def _until_next_look(world: World, traffic: float, hours: float) -> float:
    """Hours; the real loop looks every minute, which a simulation needs only while little is known."""
    over = hours >= FIRST_H if traffic else world.votes_a_day * hours / 24 >= FIRST_VOTES
    if over:
        return LOOK_EVERY_H
    a_day = world.requests_a_day * traffic if traffic else world.votes_a_day
    return float(np.clip(APART * 24 / max(a_day, 1e-9), SOONEST_H, LOOK_EVERY_H))


def _ask(
    crowd: SimulatedPeople, world: World, plan: RolloutPlan, stage: StageRecord, until_h: float, passed_h: float
) -> set[int]:
    """The requests up to a moment; returns the people whom the new version failed in them."""
    draw, unit, traffic = crowd.draw, stage.unit, stage.traffic
    count = int(draw.poisson(world.requests_a_day * passed_h / 24))
    people = crowd.people(count)
    hours = until_h - passed_h * draw.random(count)
    if traffic == 0:
        keys = draw.integers(0, 2**62, count)
        copied = draw.random(count) < plan.shadow_share
        blank = np.full(count, np.nan)
        failed = crowd.failed(people, world.new_errors, hours)
        stage.new.append((keys[copied], failed[copied], blank[copied]))
        asked = keys, crowd.failed(people, world.errors, hours), blank
        stage.champion.append(asked)
        stage.control.append(asked)
        return set()
    if unit == "person":
        keys, places = people, crowd.place[people]
    else:
        # A conversation's requests follow each other; which of them are in one is drawn by its person.
        length = CONVERSATION if unit == "conversation" else 1.0
        talks = max(1, round(world.requests_a_day * passed_h / 24 / length / max(world.people, 1)) * 2)
        keys = people * 1000 + draw.integers(0, talks, count) if unit == "conversation" else np.arange(count)
        keys = keys + round(until_h * 4) * 10**9
        found, place = np.unique(keys, return_inverse=True)
        places = draw.random(len(found))[place]
    new, control = places < traffic, places >= max(1 - traffic, traffic)
    failed = np.where(new, crowd.failed(people, world.new_errors, hours), crowd.failed(people, world.errors, hours))
    rating = np.where(new, crowd.rated(count, world.satisfaction_shift), crowd.rated(count, 0.0))
    for arm, mask in ((stage.new, new), (stage.champion, ~new), (stage.control, control)):
        arm.append((keys[mask], failed[mask], rating[mask]))
    return set(people[new & failed].tolist())


def shares(runs: Sequence[Played]) -> dict[str, Any]:
    """What became of many rollouts: shares, and medians over those that they are about; null where there is none."""
    full = [run for run in runs if run.stage == STAGES[-1]]
    won = [run for run in runs if run.won_ab]

    def share(chosen: Sequence[Played]) -> float:
        return len(chosen) / len(runs)

    return {
        "runs": len(runs),
        "won_ab": share(won),
        "reached_full": share(full),
        "rolled_back_for_harm": share([run for run in runs if run.for_harm]),
        "rolled_back": share([run for run in runs if run.rolled_back]),
        "asked": share([run for run in runs if run.asked]),
        "days_to_full": median(run.days for run in full) if full else None,
        "votes_to_win": median(run.votes for run in won) if won else None,
        "people_who_met_an_error": median(run.errors_met for run in runs),
        "by_stage": {stage: share([run for run in runs if run.stage == stage]) for stage in STAGES},
    }
