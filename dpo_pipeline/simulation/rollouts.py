"""Rollouts on a simulated clock, decided by the real `core.rollout.decide`: what an audience's rollouts come to.

People have habits: some ask and vote ten times as often as others, they ask in conversations, and where the world says
so, errors come in heaps. Nothing here reads a log or a ledger.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Literal

import numpy as np

from dpo_pipeline.core.ab_test import read_votes
from dpo_pipeline.core.exposure import Audience, RolloutPlan, Unit, plan_rollout
from dpo_pipeline.core.rollout import HARM, STAGES, Evidence, Exposure, VersionMetrics, decide, next_stage, traffic_of
from dpo_pipeline.core.sequential_tests import Events, Opinions, Shares
from dpo_pipeline.core.winrate import Outcome
from dpo_pipeline.settings import RolloutPolicy

LOOK_EVERY_H, SOONEST_H, APART = 6.0, 0.25, 3.0
"""Hours between two looks; at first they come with the requests, in staging with the votes, so many of them apart."""
FIRST_H, FIRST_VOTES = 24.0, 400
CONVERSATION = 4.0
"""Requests of a conversation, on average."""
HABITS = 0.8
"""Standard deviation of the logarithm of how often people ask; with 0.8 one in twenty asks four times the usual."""
TASTES = 0.05
"""Standard deviation of people's own win rates around the world's."""
RATINGS, USUAL = np.array([1, 2, 3, 4, 5]), np.array([0.04, 0.08, 0.18, 0.35, 0.35])
Heaps = Literal["none", "person", "hour"]
Floats = np.ndarray


@dataclass(frozen=True)
class World:
    """An audience, and what two versions do in it.

    `win_rate`: share of votes for the new version; null: its A/B test counts as won. `satisfaction_shift`: by how much
    of itself the new version's mean rating is lower. `loud_voter`: one person votes for the new version always and so
    many times as often as the others. `heaps`: where errors come together.
    """

    people: int
    requests_a_day: float
    votes_a_day: float
    ratings_share: float = 0.3
    errors: float = 0.01
    new_errors: float = 0.01
    win_rate: float | None = None
    satisfaction_shift: float = 0.0
    loud_voter: float = 0.0
    heaps: Heaps = "none"

    @property
    def audience(self) -> Audience:
        requests = round(self.requests_a_day * 7)
        return Audience(
            min(self.people, requests), round(requests / CONVERSATION), requests, round(requests * self.ratings_share)
        )


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


class _Stage:
    """What both arms met since a stage began, request by request."""

    def __init__(self, unit: Unit, traffic: float) -> None:
        self.unit, self.traffic = unit, traffic
        self.new: list[tuple[Floats, Floats, Floats]] = []
        self.champion: list[tuple[Floats, Floats, Floats]] = []
        self.control: list[tuple[Floats, Floats, Floats]] = []

    def exposure(self) -> tuple[Exposure, VersionMetrics, VersionMetrics]:
        new, champion, control = _Arm(self.new), _Arm(self.champion), _Arm(self.control)
        staging = self.traffic == 0
        met = Exposure(
            new=new.units,
            control=control.units,
            bad=Events(new.units, new.bad, champion.units, champion.bad),
            errors=new.errors,
            crashes=Shares(new.units, 0.0),
            slow=Shares(new.units, 0.0),
            control_errors=control.errors,
            control_crashes=Shares(control.units, 0.0),
            control_slow=Shares(control.units, 0.0),
            opinions=Opinions() if staging else new.opinions,
            control_opinions=Opinions() if staging else control.opinions,
        )
        return met, new.metrics(), control.metrics()


class _Arm:
    """(unit, failed, rating or NaN) of every request, summed up by unit."""

    def __init__(self, parts: Sequence[tuple[Floats, Floats, Floats]]) -> None:
        if not parts:
            parts = [(np.empty(0, int), np.empty(0, bool), np.empty(0))]
        keys, failed, rating = (np.concatenate(column) for column in zip(*parts, strict=True))
        found, place = np.unique(keys, return_inverse=True)
        sent, bad = np.bincount(place), np.bincount(place, weights=failed)
        self.requests, self.failures, self.units = len(keys), int(failed.sum()), len(found)
        self.bad = int((bad > 0).sum())
        self.errors = Shares(self.units, float((bad / sent).sum()) if self.units else 0.0)
        rated = ~np.isnan(rating)
        self.rated = int(rated.sum())
        self.opinions = Opinions()
        if self.rated:
            counts, sums = np.bincount(place[rated]), np.bincount(place[rated], weights=rating[rated])
            means = sums[counts > 0] / counts[counts > 0]
            spread = float(means.var(ddof=1)) if len(means) > 1 else 0.0
            self.opinions = Opinions(len(means), float(means.mean()), spread)

    def metrics(self) -> VersionMetrics:
        satisfaction = self.opinions.mean if self.opinions.units else None
        return VersionMetrics(self.requests, self.failures, 0, 300.0, self.rated, satisfaction)


class _Crowd:
    """People with habits and tastes; draws what they ask and how they vote."""

    def __init__(self, world: World, draw: np.random.Generator) -> None:
        self.world, self.draw = world, draw
        habits = draw.lognormal(0.0, HABITS, world.people)
        self.asking = np.cumsum(habits / habits.sum())
        voting = habits.copy()
        self.tastes = np.full(world.people, 0.5 if world.win_rate is None else world.win_rate)
        if world.loud_voter:
            voting = np.ones(world.people)
            voting[0] = world.loud_voter
            self.tastes[0] = 1.0
        elif world.win_rate not in (None, 0.5):
            self.tastes = np.clip(self.tastes + draw.normal(0, TASTES, world.people), 0.02, 0.98)
        self.voting = np.cumsum(voting / voting.sum())
        self.place = draw.random(world.people)
        # Errors of the whole world in a few people, who fail all the time.
        failing = draw.permutation(world.people)[: max(1, round(0.05 * world.people))]
        self.fails = np.zeros(world.people)
        self.fails[failing] = 1.0
        self.share_failing = float(np.diff(self.asking, prepend=0.0)[failing].sum())

    def people(self, count: int, voting: bool = False) -> Floats:
        chosen = np.searchsorted(self.voting if voting else self.asking, self.draw.random(count))
        last: Floats = np.minimum(chosen, self.world.people - 1)
        return last

    def failed(self, people: Floats, rate: float, hours: Floats) -> Floats:
        """Whether each request fails, at the rate on average over people and hours."""
        chances = np.full(len(people), rate)
        if self.world.heaps == "person":
            chances = np.where(self.fails[people] > 0, min(rate / self.share_failing, 1.0), 0.0)
        elif self.world.heaps == "hour":
            # One hour in fifty has them all.
            chances = np.where(hours.astype(int) % 50 == 7, min(rate * 50, 1.0), 0.0)
        failed: Floats = self.draw.random(len(people)) < chances
        return failed

    def rated(self, count: int, shift: float) -> Floats:
        ratings = self.draw.choice(RATINGS, count, p=USUAL).astype(float)
        # One step down with the chance that lowers the mean by `shift` of itself.
        down = (ratings > 1) & (self.draw.random(count) < shift * float(RATINGS @ USUAL) / (1 - USUAL[0]))
        given: Floats = np.where(self.draw.random(count) < self.world.ratings_share, ratings - down, np.nan)
        return given

    def votes(self, hours: float) -> list[tuple[str, Outcome]]:
        voters = self.people(self.draw.poisson(self.world.votes_a_day * hours / 24), voting=True)
        wins = self.draw.random(len(voters)) < self.tastes[voters]
        return [(f"p{voter}", "win" if won else "loss") for voter, won in zip(voters, wins, strict=True)]


def play(world: World, policy: RolloutPolicy, draw: np.random.Generator) -> Played:
    """One rollout, from staging to full traffic or to where it is rolled back."""
    plan = plan_rollout(policy, world.audience)
    crowd = _Crowd(world, draw)
    votes: list[tuple[str, Outcome]] = []
    earlier: tuple[Exposure, ...] = ()
    name, clock, spent, control_spent, won = STAGES[0], 0.0, 0, 0, world.win_rate is None
    errors_met: set[int] = set()
    while True:
        stage, hours = _Stage(plan.unit, traffic_of(name, policy)), 0.0
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


def _ask(crowd: _Crowd, world: World, plan: RolloutPlan, stage: _Stage, until_h: float, passed_h: float) -> set[int]:
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
