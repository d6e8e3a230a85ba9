"""A simulated audience: people with habits and tastes, what they ask and vote, and what they meet in a stage."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from dpo_pipeline.core.exposure import Audience, Unit
from dpo_pipeline.core.rollout import Exposure, VersionMetrics
from dpo_pipeline.core.sequential_tests import Events, Opinions, Shares
from dpo_pipeline.core.winrate import Outcome

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


class StageRecord:
    """What both arms met since a stage began, request by request."""

    def __init__(self, unit: Unit, traffic: float) -> None:
        self.unit, self.traffic = unit, traffic
        self.new: list[tuple[Floats, Floats, Floats]] = []
        self.champion: list[tuple[Floats, Floats, Floats]] = []
        self.control: list[tuple[Floats, Floats, Floats]] = []

    def exposure(self) -> tuple[Exposure, VersionMetrics, VersionMetrics]:
        new, champion, control = Arm(self.new), Arm(self.champion), Arm(self.control)
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


class Arm:
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


class SimulatedPeople:
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
