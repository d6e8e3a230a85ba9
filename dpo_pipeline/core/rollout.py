"""Stages and measurements → promote | hold | rollback, with reasons.

The schedule and `should_rollback` are the user's own rules on point estimates. Beside every rule stands the evidence,
valid however often one looks (`core.harm`): evidence of harm rolls back, evidence of none promotes, and an absolute
rule that holds without it only holds the version where it is. Reading logs and moving the ledger belong elsewhere.
"""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Literal

from dpo_pipeline.core.harm import (
    Events,
    Opinions,
    Shares,
    arms_are_uneven,
    difference_bounds,
    ratio_e_value,
    share_bounds,
)
from dpo_pipeline.core.winrate import SHARES, Outcome, WinRate, win_rate
from dpo_pipeline.settings import RolloutPolicy, StagePolicy

STAGES = ("staging", "canary", "small", "half", "full")
Decision = Literal["promote", "hold", "rollback"]
COMPARED = ("error rate against the baseline", "satisfaction of the stage", "satisfaction against the baseline")
CONTROL_ALPHA = 0.05
"""Level of the bound on what the control meets of something, where it met it at all."""
TESTS = 6
"""Conditions that can each find harm, among which alpha is split; and among the stages."""


@dataclass(frozen=True)
class Metrics:
    """What one version did in a window. A rate is null where nothing was measured."""

    requests: int = 0
    errors: int = 0
    crashes: int = 0
    p99_ms: float | None = None
    ratings: int = 0
    satisfaction: float | None = None

    @property
    def error_rate(self) -> float | None:
        return self.errors / self.requests if self.requests else None

    @property
    def crash_rate(self) -> float | None:
        return self.crashes / self.requests if self.requests else None


@dataclass(frozen=True)
class People:
    """What the people of both arms met in a stage; the control is a group of the champion's users of the same size.

    `errors`, `crashes` and `slow` are shares of the new version's requests, `slow` above the p99 limit; `control_…` of
    the control's.
    """

    new: int = 0
    control: int = 0
    bad: Events = field(default_factory=Events)
    errors: Shares = field(default_factory=Shares)
    crashes: Shares = field(default_factory=Shares)
    slow: Shares = field(default_factory=Shares)
    control_errors: Shares = field(default_factory=Shares)
    control_crashes: Shares = field(default_factory=Shares)
    control_slow: Shares = field(default_factory=Shares)
    opinions: Opinions = field(default_factory=Opinions)
    control_opinions: Opinions = field(default_factory=Opinions)


@dataclass(frozen=True)
class Evidence:
    """All that a decision looks at. `hours` is the time in the stage, already unscaled.

    `ab` counts people; `ab_without` is the same without the person who speaks most for the new version. `day` is
    which day of full traffic this is: evidence is counted afresh every day there.
    """

    stage: str
    hours: float
    ab: WinRate
    new: Metrics = field(default_factory=Metrics)
    baseline: Metrics = field(default_factory=Metrics)
    people: People = field(default_factory=People)
    ab_without: WinRate | None = None
    day: int = 1


@dataclass(frozen=True)
class Condition:
    """One rule, judged twice: `literal` on point estimates, `evidence` by a test; null where nothing was measured."""

    name: str
    literal: bool | None
    said: str
    evidence: bool | None
    shown: str


@dataclass(frozen=True)
class RolloutDecision:
    """`conditions`: each of the rules for taking a version back, literal and evidence side by side."""

    decision: Decision
    reasons: tuple[str, ...]
    conditions: tuple[Condition, ...] = ()


def traffic_of(stage: str, policy: RolloutPolicy) -> float:
    """Share of the traffic that the challenger gets in this stage."""
    return stage_policy(stage, policy).traffic


def stage_policy(stage: str, policy: RolloutPolicy) -> StagePolicy:
    found: StagePolicy = getattr(policy, stage)
    return found


def next_stage(stage: str) -> str | None:
    """The stage after this one; null after the last."""
    place = STAGES.index(stage) + 1
    return STAGES[place] if place < len(STAGES) else None


def place_of(user: str, challenger: str) -> float:
    """A user's place in [0, 1) for the rollout of a version; it hangs on both names alone."""
    digest = hashlib.blake2b(f"{challenger}\0{user}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") / 2**64


def gets_challenger(user: str, challenger: str, traffic: float) -> bool:
    """Whether this user is served the challenger: always the same answer while traffic does not shrink.

    Raising the traffic only ever moves people from the champion to the challenger, and a restart moves nobody.
    """
    return place_of(user, challenger) < traffic


def is_control(user: str, challenger: str, traffic: float) -> bool:
    """Whether a champion's user is one of the control: a group as large as the challenger's, from the other end."""
    return place_of(user, challenger) >= max(1 - traffic, traffic)


def ab_win_rates(votes: Sequence[tuple[str, Outcome]], policy: RolloutPolicy) -> tuple[WinRate, WinRate]:
    """The A/B test with people as units, and the same without the person who speaks most for the new version.

    Args:
        votes: (annotator, outcome for the new version), in log order.
    """
    by_person: dict[str, list[float]] = {}
    for person, outcome in votes:
        by_person.setdefault(person, []).append(SHARES[outcome])
    strongest = max(by_person, key=lambda person: fmean(by_person[person]), default=None)

    def counted(kept: Sequence[tuple[str, Outcome]]) -> WinRate:
        people = [person for person, _ in kept]
        return win_rate([outcome for _, outcome in kept], policy.ab_alpha, people, policy.votes_per_person)

    return counted(votes), counted([vote for vote in votes if vote[0] != strongest])


def should_rollback(new: Metrics, baseline: Metrics, policy: RolloutPolicy) -> list[str]:
    """The user's rule: the conditions that hold, in words; empty means stay.

    Error rate above 1.5 × baseline, p99 above 2000 ms, satisfaction below 0.9 × baseline, crash
    rate above 1 %. A condition without a measurement does not hold, and does not speak for the
    version either: promotion needs exposure.
    """
    reasons = []
    if new.error_rate is not None and baseline.error_rate is not None:
        limit = policy.max_error_ratio * baseline.error_rate
        if new.error_rate > limit and new.errors > 0:
            reasons.append(f"error rate {new.error_rate:.2%} > {policy.max_error_ratio} × {baseline.error_rate:.2%}")
    if new.p99_ms is not None and new.p99_ms > policy.max_p99_ms:
        reasons.append(f"p99 latency {new.p99_ms:.0f} ms > {policy.max_p99_ms:.0f} ms")
    if (
        new.satisfaction is not None
        and baseline.satisfaction is not None
        and min(new.ratings, baseline.ratings) >= policy.min_ratings
        and new.satisfaction < policy.min_satisfaction_ratio * baseline.satisfaction
    ):
        reasons.append(
            f"satisfaction {new.satisfaction:.2f} < {policy.min_satisfaction_ratio} × {baseline.satisfaction:.2f}"
        )
    if new.crash_rate is not None and new.crash_rate > policy.max_crash_rate:
        reasons.append(f"crash rate {new.crash_rate:.2%} > {policy.max_crash_rate:.0%}")
    return reasons


def conditions(evidence: Evidence, policy: RolloutPolicy) -> tuple[Condition, ...]:
    """Every rule for taking a version back, on point estimates and as a test at alpha / (tests · stages).

    Day d of full traffic gets 1 / (d · (d + 1)) of that, which sums to 1: alpha holds for as long as it is watched.
    """
    alpha, people = policy.harm_alpha / (TESTS * (len(STAGES) - 1)), evidence.people
    if next_stage(evidence.stage) is None:
        alpha /= evidence.day * (evidence.day + 1)
    return (
        _error_ratio(evidence, policy, alpha),
        _error_limit(evidence, policy, alpha),
        _absolute(
            "crash rate", evidence.new.crash_rate, policy.max_crash_rate, people.crashes, people.control_crashes, alpha
        ),
        _latency(evidence, policy, alpha),
        _satisfaction("satisfaction of the stage", 1.0, evidence, policy, alpha),
        _satisfaction("satisfaction against the baseline", policy.min_satisfaction_ratio, evidence, policy, alpha),
    )


def decide(evidence: Evidence, policy: RolloutPolicy) -> RolloutDecision:
    """What to do with the version that is being rolled out.

    Evidence of harm rolls back. Without it a version is promoted when its time is over, enough people met it, no
    absolute rule speaks against it and harm beyond the margins is ruled out; otherwise it is held, and past the
    stage's limit taken back. No data holds; it never promotes.
    """
    found = conditions(evidence, policy)
    if harm := [f"{each.name}: {each.said}; {each.shown}" for each in found if each.evidence]:
        return RolloutDecision("rollback", ("evidence of harm", *harm), found)
    if evidence.stage == "staging":
        return _decide_staging(evidence, policy, found)
    stage = stage_policy(evidence.stage, policy)
    if next_stage(evidence.stage) is None:
        return RolloutDecision("hold", ("full traffic; watched all the time", *_warnings(found)), found)
    waiting = [*_waiting_for(evidence, stage, policy), *_warnings(found), *_not_ruled_out(evidence, stage, policy)]
    hours = stage.hours * policy.duration_scale
    if waiting and hours and evidence.hours > policy.stage_limit * hours:
        told = f"still undecided after {policy.stage_limit:g} × {hours:g} h"
        return RolloutDecision("rollback", (told, *waiting), found)
    if waiting:
        return RolloutDecision("hold", tuple(waiting), found)
    return RolloutDecision(
        "promote", (f"{evidence.stage}: no rule speaks against it and harm is ruled out", _summary(evidence)), found
    )


def _error_ratio(evidence: Evidence, policy: RolloutPolicy, alpha: float) -> Condition:
    new, baseline, ratio = evidence.new.error_rate, evidence.baseline.error_rate, policy.max_error_ratio
    e_value = ratio_e_value(evidence.people.bad, ratio)
    measured = new is not None and baseline is not None
    return Condition(
        "error rate against the baseline",
        new > ratio * baseline and evidence.new.errors > 0 if new is not None and baseline is not None else None,
        f"{_percent(new)}, {ratio} × {_percent(baseline)} allowed",
        e_value >= 1 / alpha if measured else None,
        f"e-value {e_value:.3g} of {1 / alpha:.0f}",
    )


def _error_limit(evidence: Evidence, policy: RolloutPolicy, alpha: float) -> Condition:
    limit = stage_policy(evidence.stage, policy).max_error_rate
    if limit is None:
        return Condition("error rate of the stage", None, "no limit in this stage", None, "not tested")
    rate, people = evidence.new.error_rate, evidence.people
    return _absolute("error rate of the stage", rate, limit, people.errors, people.control_errors, alpha)


def _absolute(name: str, rate: float | None, limit: float, shares: Shares, control: Shares, alpha: float) -> Condition:
    found, shown = _beyond(limit, shares, control, alpha)
    said = f"{_percent(rate)}, {limit:.0%} allowed"
    return Condition(name, None if rate is None else rate > limit, said, found, shown)


def _latency(evidence: Evidence, policy: RolloutPolicy, alpha: float) -> Condition:
    p99, people = evidence.new.p99_ms, evidence.people
    found, shown = _beyond(0.01, people.slow, people.control_slow, alpha)
    said = f"{'no data' if p99 is None else f'{p99:.0f} ms'}, {policy.max_p99_ms:.0f} ms allowed"
    literal = None if p99 is None else p99 > policy.max_p99_ms
    return Condition("p99 latency", literal, said, found, f"slower than that are {shown}, 1% allowed")


def _beyond(limit: float, shares: Shares, control: Shares, alpha: float) -> tuple[bool | None, str]:
    """Whether there is evidence that a share lies beyond its limit for the new version and not for everybody.

    What the control meets as well, such as an outage of the engine, is not the version's doing: it holds the version by
    the letter of the rule, and does not take it back.
    """
    low, high = share_bounds(shares, alpha)
    shown = f"between {low:.1%} and {high:.1%} for {shares.people} people"
    if not shares.people:
        return None, shown
    met = share_bounds(control, CONTROL_ALPHA)[1] if control.people and control.total else 0.0
    if limit < low <= met:
        return False, f"{shown}, and the control may meet as much: up to {met:.1%}"
    return low > max(limit, met), shown


def _satisfaction(name: str, ratio: float, evidence: Evidence, policy: RolloutPolicy, alpha: float) -> Condition:
    """Below `ratio` times the baseline: 1 is the rule of every stage, 0.9 that of `should_rollback`."""
    new, baseline = evidence.new, evidence.baseline
    rated = min(new.ratings, baseline.ratings) >= max(policy.min_ratings, 1)
    known = rated and new.satisfaction is not None and baseline.satisfaction is not None
    low, high = difference_bounds(evidence.people.opinions, evidence.people.control_opinions, alpha, ratio)
    return Condition(
        name,
        (new.satisfaction or 0.0) < ratio * (baseline.satisfaction or 0.0) if known else None,
        f"{_stars(new)}, {ratio:g} × {_stars(baseline)} asked",
        high < 0 if evidence.people.opinions.people else None,
        "too few ratings to tell a difference" if math.isinf(low) else f"difference between {low:.2f} and {high:.2f}",
    )


def _decide_staging(evidence: Evidence, policy: RolloutPolicy, found: tuple[Condition, ...]) -> RolloutDecision:
    ab, without = evidence.ab, evidence.ab_without or evidence.ab
    limit = policy.staging_limit_h * policy.duration_scale
    enough = ab.count >= policy.min_ab_votes
    if enough and ab.low > 0.5 and without.low > 0.5:
        return RolloutDecision("promote", (f"A/B test won: {ab}",), found)
    if enough and ab.high < 0.5:
        return RolloutDecision("rollback", (f"A/B test lost: {ab}",), found)
    if evidence.hours > limit:
        return RolloutDecision("rollback", (f"A/B test undecided after {limit:g} h: {ab}",), found)
    if enough and ab.low > 0.5:
        return RolloutDecision("hold", (f"A/B test won by one person alone: {ab}, without them {without}",), found)
    return RolloutDecision("hold", (f"A/B test undecided: {ab}; {policy.min_ab_votes} votes at the least",), found)


def _warnings(found: Sequence[Condition]) -> list[str]:
    """Absolute rules that hold on point estimates without evidence: no reason to take back, none to let out.

    Rules that compare two versions hold by chance every second time when the two are alike; `_not_ruled_out` asks
    for bounds instead.
    """
    return [
        f"{each.name}: {each.said}, without evidence yet ({each.shown})"
        for each in found
        if each.literal and each.name not in COMPARED
    ]


def _waiting_for(evidence: Evidence, stage: StagePolicy, policy: RolloutPolicy) -> list[str]:
    waiting = []
    hours, people = stage.hours * policy.duration_scale, evidence.people
    if evidence.hours < hours:
        waiting.append(f"{evidence.stage} lasts at least {hours:.3g} h, {evidence.hours:.3g} h so far")
    if evidence.new.requests < policy.min_requests:
        waiting.append(f"{evidence.new.requests} of {policy.min_requests} requests to the new version")
    if evidence.new.ratings < policy.min_ratings:
        waiting.append(f"{evidence.new.ratings} of {policy.min_ratings} ratings of the new version")
    if arms_are_uneven(people.new, people.control, policy.srm_alpha):
        waiting.append(f"{people.new} people met the new version and {people.control} the control, drawn alike")
    return waiting


def _not_ruled_out(evidence: Evidence, stage: StagePolicy, policy: RolloutPolicy) -> list[str]:
    """What more exposure has to rule out before the next stage: errors, and beyond 20 % of traffic dissatisfaction."""
    open_ = []
    people = evidence.people
    if stage.max_error_rate is not None:
        bound = policy.no_harm_factor * stage.max_error_rate
        _, high = share_bounds(people.errors, policy.no_harm_alpha)
        if high > bound:
            open_.append(
                f"errors of up to {high:.1%} are not ruled out by {people.errors.people} people, {bound:.0%} are"
            )
    if stage.traffic >= policy.small.traffic:
        low, _ = difference_bounds(
            people.opinions, people.control_opinions, policy.no_harm_alpha, 1 - policy.satisfaction_margin
        )
        if low < 0:
            raters = min(people.opinions.people, people.control_opinions.people)
            open_.append(
                f"satisfaction {policy.satisfaction_margin:.0%} below the baseline is not ruled out by {raters} people"
            )
    return open_


def _percent(rate: float | None) -> str:
    return "no data" if rate is None else f"{rate:.2%}"


def _stars(metrics: Metrics) -> str:
    return "no ratings" if metrics.satisfaction is None else f"{metrics.satisfaction:.2f}"


def _summary(evidence: Evidence) -> str:
    new = evidence.new
    return (
        f"{new.requests} requests of {evidence.people.new} people, {new.errors} errors, {new.ratings} ratings, "
        f"satisfaction {_stars(new)} after {_stars(evidence.baseline)}"
    )
