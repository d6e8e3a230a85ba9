"""Stages and measurements → promote | hold | rollback, with reasons.

The schedule and `should_rollback` are the literal rules, on point estimates. Beside every rule stands the evidence,
valid however often one looks (`core.harm`): evidence of harm rolls back, evidence of none promotes, and an absolute
rule that is triggered without it only holds the version where it is. Where an audience is too small for the usual
margins, a version goes on when its hours are over and nothing speaks against it, and the decision says what could not
be ruled out. Reading logs and moving the ledger belong elsewhere.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from dpo_pipeline.core.ab_test import AbTest, read_votes
from dpo_pipeline.core.exposure import Audience, RolloutPlan
from dpo_pipeline.core.harm import (
    Events,
    Opinions,
    Shares,
    arms_are_uneven,
    difference_bounds,
    ratio_e_value,
    ratio_p_value,
    share_bounds,
)
from dpo_pipeline.settings import RolloutPolicy, StagePolicy

STAGES = ("staging", "canary", "small", "half", "full")
Decision = Literal["promote", "hold", "rollback"]
COMPARED = ("error rate against the baseline", "satisfaction of the stage", "satisfaction against the baseline")
CONTROL_ALPHA = 0.05
"""Level of the bound on what the control meets of something, where it met it at all."""
SEQUENCE, STAGE_ENDS, EACH_OTHER = 0.3, 0.4, 0.06
"""Shares of `harm_alpha`: the error ratio at every look, the error ratio at the ends of stages, each of five others."""
SPENT_AT = {"staging": 0.1, "canary": 0.1, "small": 0.2, "half": 0.6}
"""Of the share of the ends of stages: most where most is known (O'Brien and Fleming 1979 spend alpha likewise)."""


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
class Exposure:
    """What the units of both arms met in a stage; the control is a group of the champion's units of the same size.

    In staging nobody is served the new version: its shadow copies stand beside the requests of the champion. `bad`
    counts all of the champion's units: whose event it was is asked one by one, so more of them tell more. `errors`,
    `crashes` and `slow` are shares of the new version's requests, `slow` above the p99 limit; `control_…` of the
    control's.
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

    def __add__(self, other: "Exposure") -> "Exposure":
        """Both together; `bad` stays the other's, because events are compared stage by stage."""
        return Exposure(
            new=self.new + other.new,
            control=self.control + other.control,
            bad=other.bad,
            errors=self.errors + other.errors,
            crashes=self.crashes + other.crashes,
            slow=self.slow + other.slow,
            control_errors=self.control_errors + other.control_errors,
            control_crashes=self.control_crashes + other.control_crashes,
            control_slow=self.control_slow + other.control_slow,
            opinions=self.opinions + other.opinions,
            control_opinions=self.control_opinions + other.control_opinions,
        )


@dataclass(frozen=True)
class Evidence:
    """All that a decision looks at. `hours` is the time in the stage, already unscaled.

    `met` is of this stage, `earlier` of the stages of this rollout that are over. `ab_won`: this version won its A/B
    test. `day` is which day of full traffic this is: evidence is counted from zero every day there.
    """

    stage: str
    hours: float
    ab: AbTest | None = None
    new: Metrics = field(default_factory=Metrics)
    baseline: Metrics = field(default_factory=Metrics)
    met: Exposure = field(default_factory=Exposure)
    earlier: tuple[Exposure, ...] = ()
    ab_won: bool = False
    day: int = 1

    @property
    def so_far(self) -> Exposure:
        """What was met in the whole rollout."""
        return sum(self.earlier, Exposure()) + self.met

    @property
    def events(self) -> tuple[Events, ...]:
        return (*(each.bad for each in self.earlier), self.met.bad)


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
    """`conditions`: each of the rules for rolling a version back, literal and evidence side by side.

    `asks`: the version is held because a person has to say whether it goes on.
    """

    decision: Decision
    reasons: tuple[str, ...]
    conditions: tuple[Condition, ...] = ()
    asks: bool = False


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


def should_rollback(new: Metrics, baseline: Metrics, policy: RolloutPolicy) -> list[str]:
    """The literal rule: the conditions that are triggered, in words; empty means stay.

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
    """Every rule for rolling a version back, on point estimates and as a test at its share of alpha.

    Day d of full traffic gets 1 / (d · (d + 1)) of that, which sums to 1: alpha holds for as long as it is watched.
    """
    alpha, met = policy.harm_alpha, evidence.so_far
    if next_stage(evidence.stage) is None:
        alpha /= evidence.day * (evidence.day + 1)
    other = EACH_OTHER * alpha
    limit, new = policy.max_crash_rate, evidence.new
    return (
        _error_ratio(evidence, policy, SEQUENCE * alpha),
        _error_limit(evidence, policy, met, other),
        _absolute("crash rate", _rate(met.crashes, new.crash_rate), limit, met.crashes, met.control_crashes, other),
        _latency(evidence, policy, met, other),
        _satisfaction("satisfaction of the stage", 1.0, evidence, policy, other),
        _satisfaction("satisfaction against the baseline", policy.min_satisfaction_ratio, evidence, policy, other),
    )


def decide(evidence: Evidence, plan: RolloutPlan) -> RolloutDecision:
    """What to do with the version that is being rolled out.

    Evidence of harm rolls back. Without it a version is promoted when its time is over, it was met often enough, no
    absolute rule is triggered, and harm beyond the margins is ruled out or cannot be by this audience in time;
    otherwise it is held, and past the stage's limit rolled back. No data holds; it never promotes.
    """
    policy = plan.policy
    found = conditions(evidence, policy)
    if harm := [f"{each.name}: {each.said}; {each.shown}" for each in found if each.evidence]:
        return RolloutDecision("rollback", ("evidence of harm", *harm), found)
    if evidence.stage == STAGES[0]:
        return _decide_staging(evidence, plan, found)
    if next_stage(evidence.stage) is None:
        return RolloutDecision("hold", ("full traffic; watched all the time", *_warnings(found)), found)
    stage = stage_policy(evidence.stage, policy)
    hours = stage.hours * policy.duration_scale
    waiting = [*_waiting_for(evidence, stage, plan), *_warnings(found)]
    if waiting and hours and evidence.hours > policy.stage_limit * hours:
        told = f"still undecided after {policy.stage_limit:g} × {hours:g} h"
        return RolloutDecision("rollback", (told, *waiting), found)
    if waiting:
        return RolloutDecision("hold", tuple(waiting), found)
    if at_the_end := _harm_at_the_end(evidence, policy):
        return RolloutDecision("rollback", ("evidence of harm", at_the_end), found)
    return _end_of_stage(evidence, stage, plan, found)


def _end_of_stage(
    evidence: Evidence, stage: StagePolicy, plan: RolloutPlan, found: tuple[Condition, ...]
) -> RolloutDecision:
    """Hours and exposure are there, nothing speaks against the version: is what it might do wrong ruled out?"""
    policy, hours = plan.policy, stage.hours * plan.policy.duration_scale
    questions = _open_questions(evidence, stage, plan)
    left = [question.text for question in questions if not question.answered]
    summary = _summary(evidence)
    if not left:
        return RolloutDecision(
            "promote", (f"{evidence.stage}: no rule is triggered and harm is ruled out", summary), found
        )
    reachable = any(question.reachable for question in questions if not question.answered)
    if reachable and evidence.hours <= policy.patience * hours:
        return RolloutDecision("hold", tuple(left), found)
    known = [question.text for question in questions if question.answered]
    why = "not reached in time" if reachable else "out of reach of this audience"
    told = (f"{evidence.stage}: no rule is triggered; the usual margins are {why}", *known, *left, summary)
    if policy.undecided == "promote":
        return RolloutDecision("promote", told, found)
    if policy.undecided == "ask":
        return RolloutDecision("hold", ("a person decides whether it goes on", *told), found, asks=True)
    return RolloutDecision("rollback", told, found)


def _decide_staging(evidence: Evidence, plan: RolloutPlan, found: tuple[Condition, ...]) -> RolloutDecision:
    policy, ab = plan.policy, evidence.ab or read_votes((), plan.policy, plan.audience)
    votes, limit = ab.deciding, policy.staging_limit_h * policy.duration_scale
    enough = votes.count >= policy.min_ab_votes
    won = evidence.ab_won or (enough and votes.low > 0.5 and ab.without.low > 0.5)
    if not won and enough and votes.high < 0.5:
        return RolloutDecision("rollback", (f"A/B test lost: {ab}",), found)
    if not won and evidence.hours > limit:
        return RolloutDecision("rollback", (f"A/B test undecided after {limit:g} h: {ab}",), found)
    if not won and enough and votes.low > 0.5:
        return RolloutDecision("hold", (f"A/B test won by one person alone: {ab}, without them {ab.without}",), found)
    if not won:
        return RolloutDecision(
            "hold", (f"A/B test undecided: {ab}; at least {policy.min_ab_votes} votes needed",), found
        )
    if waiting := [*_shadows_wanted(evidence, plan), *_warnings(found)]:
        if evidence.hours > limit:
            return RolloutDecision("rollback", (f"A/B test won, and still held after {limit:g} h", *waiting), found)
        return RolloutDecision("hold", (f"A/B test won: {ab}", *waiting), found)
    if harm := _harm_at_the_end(evidence, policy):
        return RolloutDecision("rollback", ("evidence of harm", harm), found)
    return RolloutDecision("promote", (f"A/B test won: {ab}",), found)


def _shadows_wanted(evidence: Evidence, plan: RolloutPlan) -> list[str]:
    """Shadow copies that should be answered before anybody meets the version; none where nobody asks anything."""
    policy, copies = plan.policy, evidence.met.new
    wait_h = policy.canary.hours * policy.duration_scale
    if not plan.shadow_share or copies >= policy.min_requests or evidence.hours >= wait_h:
        return []
    return [f"{copies} of {policy.min_requests} shadow copies"]


def _harm_at_the_end(evidence: Evidence, policy: RolloutPolicy) -> str | None:
    """The error ratio as it is tested once at the end of each stage: it finds what the sequence is too careful for."""
    alpha = STAGE_ENDS * SPENT_AT[evidence.stage] * policy.harm_alpha
    chance = ratio_p_value(evidence.events, policy.max_error_ratio)
    if chance > alpha:
        return None
    met = evidence.so_far
    return (
        f"error rate against the baseline: {_percent(met.errors.rate)} after {_percent(met.control_errors.rate)}; a "
        f"ratio of {policy.max_error_ratio:g} gives so many in {chance:.2%} of rollouts, at most {alpha:.2%} was asked"
    )


def _error_ratio(evidence: Evidence, policy: RolloutPolicy, alpha: float) -> Condition:
    met, ratio = evidence.so_far, policy.max_error_ratio
    new, baseline = _rate(met.errors, evidence.new.error_rate), _rate(met.control_errors, evidence.baseline.error_rate)
    e_value = ratio_e_value(evidence.events, ratio)
    measured = new is not None and baseline is not None
    return Condition(
        "error rate against the baseline",
        new > ratio * baseline and new > 0 if new is not None and baseline is not None else None,
        f"{_percent(new)}, {ratio} × {_percent(baseline)} allowed",
        e_value >= 1 / alpha if measured else None,
        f"e-value {e_value:.3g} of {1 / alpha:.0f}",
    )


def _error_limit(evidence: Evidence, policy: RolloutPolicy, met: Exposure, alpha: float) -> Condition:
    # What shadow copies fail at, the canary would fail at.
    stage = "canary" if evidence.stage == STAGES[0] else evidence.stage
    limit = stage_policy(stage, policy).max_error_rate
    if limit is None:
        return Condition("error rate of the stage", None, "no limit in this stage", None, "not tested")
    rate = _rate(met.errors, evidence.new.error_rate)
    return _absolute("error rate of the stage", rate, limit, met.errors, met.control_errors, alpha)


def _absolute(name: str, rate: float | None, limit: float, shares: Shares, control: Shares, alpha: float) -> Condition:
    found, shown = _beyond(limit, shares, control, alpha)
    said = f"{_percent(rate)}, {limit:.0%} allowed"
    return Condition(name, None if rate is None else rate > limit, said, found, shown)


def _latency(evidence: Evidence, policy: RolloutPolicy, met: Exposure, alpha: float) -> Condition:
    p99 = evidence.new.p99_ms
    found, shown = _beyond(0.01, met.slow, met.control_slow, alpha)
    said = f"{'no data' if p99 is None else f'{p99:.0f} ms'}, {policy.max_p99_ms:.0f} ms allowed"
    literal = None if p99 is None else p99 > policy.max_p99_ms
    return Condition("p99 latency", literal, said, found, f"slower than that are {shown}, 1% allowed")


def _beyond(limit: float, shares: Shares, control: Shares, alpha: float) -> tuple[bool | None, str]:
    """Whether there is evidence that a share lies beyond its limit for the new version and not for everybody.

    What the control meets as well, such as an outage of the engine, is not the version's doing: it holds the version by
    the letter of the rule, and does not roll it back.
    """
    low, high = share_bounds(shares, alpha)
    shown = f"between {low:.1%} and {high:.1%} of {shares.units}"
    if not shares.units:
        return None, shown
    met = share_bounds(control, CONTROL_ALPHA)[1] if control.units and control.total else 0.0
    if limit < low <= met:
        return False, f"{shown}, and the control may meet as much: up to {met:.1%}"
    return low > max(limit, met), shown


def _satisfaction(name: str, ratio: float, evidence: Evidence, policy: RolloutPolicy, alpha: float) -> Condition:
    """Below `ratio` times the baseline: 1 is the rule of every stage, 0.9 that of `should_rollback`."""
    new, baseline, met = evidence.new, evidence.baseline, evidence.so_far
    rated = min(new.ratings, baseline.ratings) >= max(policy.min_ratings, 1)
    known = rated and new.satisfaction is not None and baseline.satisfaction is not None
    low, high = difference_bounds(met.opinions, met.control_opinions, alpha, ratio)
    return Condition(
        name,
        (new.satisfaction or 0.0) < ratio * (baseline.satisfaction or 0.0) if known else None,
        f"{_stars(new)}, at least {ratio:g} × {_stars(baseline)} required",
        high < 0 if met.opinions.units else None,
        "too few ratings to tell a difference" if math.isinf(low) else f"difference between {low:.2f} and {high:.2f}",
    )


def _warnings(found: Sequence[Condition]) -> list[str]:
    """Absolute rules that are triggered on point estimates without evidence: no reason to roll back, none to roll out.

    Rules that compare two versions are triggered by chance every second time when the two are alike; `_open_questions`
    asks for bounds instead.
    """
    return [
        f"{each.name}: {each.said}, without evidence yet ({each.shown})"
        for each in found
        if each.literal and each.name not in COMPARED
    ]


def _waiting_for(evidence: Evidence, stage: StagePolicy, plan: RolloutPlan) -> list[str]:
    policy, met, waiting = plan.policy, evidence.met, []
    hours = stage.hours * policy.duration_scale
    if evidence.hours < hours:
        waiting.append(f"{evidence.stage} lasts at least {hours:.3g} h, {evidence.hours:.3g} h so far")
    needed = requests_needed(stage, plan)
    if evidence.new.requests < needed:
        waiting.append(f"{evidence.new.requests} of {needed} requests to the new version")
    if arms_are_uneven(met.new, met.control, policy.srm_alpha):
        waiting.append(f"{met.new} {plan.unit}s met the new version and {met.control} the control, drawn alike")
    return waiting


def requests_needed(stage: StagePolicy, plan: RolloutPlan) -> int:
    """Requests that the new version must have answered in a stage: `min_requests`, or half of what is expected."""
    policy = plan.policy
    if not plan.audience.requests:
        return policy.min_requests
    expected = plan.audience.requests_an_hour * stage.traffic * stage.hours * policy.duration_scale
    return max(1, min(policy.min_requests, math.ceil(expected / 2)))


@dataclass(frozen=True)
class _Question:
    """Something that might be wrong with the version: ruled out, or within or out of reach of this audience."""

    text: str
    answered: bool
    reachable: bool = True


def _open_questions(evidence: Evidence, stage: StagePolicy, plan: RolloutPlan) -> list[_Question]:
    """What exposure has to rule out before the next stage: errors, and beyond 20 % of traffic dissatisfaction."""
    policy, met, questions = plan.policy, evidence.so_far, []
    more = _units_to_come(evidence, stage, plan)
    if stage.max_error_rate is not None:
        questions.append(_errors_ruled_out(met, policy.no_harm_factor * stage.max_error_rate, policy, more))
    if stage.traffic >= policy.small.traffic:
        questions.append(_dissatisfaction_ruled_out(evidence, met, policy, plan.audience, more))
    return questions


def _units_to_come(evidence: Evidence, stage: StagePolicy, plan: RolloutPlan) -> float:
    """How many more units can meet the version until patience ends; infinite where the audience is not known."""
    if not plan.audience.requests:
        return math.inf
    hours = plan.policy.patience * stage.hours * plan.policy.duration_scale - evidence.hours
    return max(hours, 0.0) * plan.audience.units_an_hour(plan.unit) * stage.traffic


def _errors_ruled_out(met: Exposure, bound: float, policy: RolloutPolicy, more: float) -> _Question:
    _, high = share_bounds(met.errors, policy.no_harm_alpha)
    if high <= bound:
        return _Question(f"errors above {high:.1%} are ruled out", True)
    # At best, those to come fail as often as the control's.
    usual = met.control_errors.rate or 0.0
    at_best = Shares(met.errors.units + min(int(min(more, 1e9)), 10**9), met.errors.total + min(more, 1e9) * usual)
    reachable = share_bounds(at_best, policy.no_harm_alpha)[1] <= bound
    told = f"errors of {bound:.0%} are not ruled out: up to {high:.1%} after {met.errors.units} {_plural(met)}"
    return _Question(told, False, reachable)


def _dissatisfaction_ruled_out(
    evidence: Evidence, met: Exposure, policy: RolloutPolicy, audience: Audience, more: float
) -> _Question:
    """Ratings rule it out, or the A/B test that the version won speaks against it."""
    margin, raters = policy.satisfaction_margin, min(met.opinions.units, met.control_opinions.units)
    low, _ = difference_bounds(met.opinions, met.control_opinions, policy.no_harm_alpha, 1 - margin)
    if low >= 0:
        return _Question(f"a satisfaction {margin:.0%} lower is ruled out", True)
    told = f"a satisfaction {margin:.0%} lower is not ruled out by {raters} ratings"
    if evidence.ab_won:
        return _Question(f"{told}; the A/B test that it won speaks against it", True)
    rated = audience.ratings / audience.requests if audience.requests else 1.0
    new, control = (_with_more(each, more * rated) for each in (met.opinions, met.control_opinions))
    at_best, _ = difference_bounds(new, control, policy.no_harm_alpha, 1 - margin)
    return _Question(told, False, at_best >= 0)


def _with_more(opinions: Opinions, more: float) -> Opinions:
    """As many ratings more, like those there are."""
    return Opinions(opinions.units + int(min(more, 1e9)), opinions.mean, opinions.variance)


def _plural(met: Exposure) -> str:
    return "unit" if met.errors.units == 1 else "units"


def _rate(shares: Shares, otherwise: float | None) -> float | None:
    return otherwise if shares.rate is None else shares.rate


def _percent(rate: float | None) -> str:
    return "no data" if rate is None else f"{rate:.2%}"


def _stars(metrics: Metrics) -> str:
    return "no ratings" if metrics.satisfaction is None else f"{metrics.satisfaction:.2f}"


def _summary(evidence: Evidence) -> str:
    new = evidence.new
    return (
        f"{new.requests} requests, {new.errors} errors, {new.ratings} ratings, "
        f"satisfaction {_stars(new)} after {_stars(evidence.baseline)}"
    )
