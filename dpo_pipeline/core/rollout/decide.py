"""What to do with the version that is being rolled out.

Evidence of harm rolls back, evidence of none promotes. Where an audience is too small for the usual margins, a version
goes on when its hours are over and nothing speaks against it, and the decision says what could not be ruled out.
"""

import math
from dataclasses import dataclass, replace
from typing import Literal

from dpo_pipeline.core.ab_test import read_votes
from dpo_pipeline.core.exposure import Audience, RolloutPlan
from dpo_pipeline.core.rollout.condition import Condition, harm_of, percent, stars, warnings_of
from dpo_pipeline.core.rollout.conditions import conditions
from dpo_pipeline.core.rollout.evidence import Evidence, Exposure
from dpo_pipeline.core.rollout.needs import more_requests, more_votes
from dpo_pipeline.core.rollout.spending import SPENT_AT, STAGE_ENDS
from dpo_pipeline.core.rollout.stages import STAGES, next_stage, stage_policy
from dpo_pipeline.core.sequential_tests import (
    Opinions,
    Shares,
    arms_are_uneven,
    difference_bounds,
    ratio_p_value,
    share_bounds,
)
from dpo_pipeline.in_words import duration
from dpo_pipeline.settings import RolloutPolicy, StagePolicy

Decision = Literal["promote", "hold", "rollback"]
HARM = "evidence of harm"
"""The first reason of a rollback for which the version was met and found harmful; a lost A/B test is none."""


@dataclass(frozen=True)
class RolloutDecision:
    """`conditions`: each of the rules for rolling a version back, literal and evidence side by side.

    `asks`: the version is held because a person has to say whether it goes on. `begins`: the rollout starts here.
    """

    decision: Decision
    reasons: tuple[str, ...]
    conditions: tuple[Condition, ...] = ()
    asks: bool = False
    begins: bool = False


def decide(evidence: Evidence, plan: RolloutPlan) -> RolloutDecision:
    """What to do with the version that is being rolled out.

    Evidence of harm rolls back. Without it a version is promoted when its time is over, it was met often enough, no
    absolute rule is triggered, and harm beyond the margins is ruled out or cannot be by this audience in time;
    otherwise it is held, and past the stage's limit rolled back. No data holds; it never promotes.
    """
    policy = plan.policy
    found = conditions(evidence, plan)
    if harm := harm_of(found):
        return RolloutDecision("rollback", (HARM, *harm), found)
    if evidence.stage == STAGES[0]:
        return _decide_staging(evidence, plan, found)
    if next_stage(evidence.stage) is None:
        return RolloutDecision("hold", ("full traffic; watched all the time", *warnings_of(found)), found)
    stage = stage_policy(evidence.stage, policy)
    hours = stage.hours * policy.duration_scale
    waiting = [*_waiting_for(evidence, stage, plan), *warnings_of(found)]
    if waiting and hours and evidence.hours > policy.stage_limit * hours:
        told = f"still undecided after {policy.stage_limit:g} × {hours:g} h"
        return RolloutDecision("rollback", (told, *waiting), found)
    if waiting:
        return RolloutDecision("hold", tuple(waiting), found)
    if at_the_end := _harm_at_the_end(evidence, policy):
        return RolloutDecision("rollback", (HARM, at_the_end), found)
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
    """By the A/B test; what it says is not acted upon while strangers press for it, as long as staging lasts."""
    decision = _by_ab_test(evidence, plan, found)
    in_time = evidence.hours <= plan.policy.staging_limit_h * plan.policy.duration_scale
    if evidence.burst and in_time and decision.decision != "hold":
        return RolloutDecision("hold", (evidence.burst, *decision.reasons), found, asks=True)
    if evidence.uncounted and decision.decision == "hold":
        return replace(decision, reasons=(*decision.reasons, evidence.uncounted))
    return decision


def _by_ab_test(evidence: Evidence, plan: RolloutPlan, found: tuple[Condition, ...]) -> RolloutDecision:
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
        left = more_votes(votes.count, policy) or "50 % is not ruled out"
        return RolloutDecision("hold", (f"A/B test undecided: {ab}; {left}",), found)
    if waiting := [*_shadows_wanted(evidence, plan), *warnings_of(found)]:
        if evidence.hours > limit:
            return RolloutDecision("rollback", (f"A/B test won, and still held after {limit:g} h", *waiting), found)
        return RolloutDecision("hold", (f"A/B test won: {ab}", *waiting), found)
    if harm := _harm_at_the_end(evidence, policy):
        return RolloutDecision("rollback", (HARM, harm), found)
    return RolloutDecision("promote", (f"A/B test won: {ab}",), found)


def _shadows_wanted(evidence: Evidence, plan: RolloutPlan) -> list[str]:
    """Shadow copies that should be answered before anybody meets the version; none where nobody asks anything."""
    wait_h = plan.policy.canary.hours * plan.policy.duration_scale
    needs = more_requests(evidence, plan)
    return [needs] if needs and evidence.hours < wait_h else []


def _harm_at_the_end(evidence: Evidence, policy: RolloutPolicy) -> str | None:
    """The error ratio as it is tested once at the end of each stage: it finds what the sequence is too careful for."""
    alpha = STAGE_ENDS * SPENT_AT[evidence.stage] * policy.harm_alpha
    chance = ratio_p_value(evidence.events, policy.max_error_ratio)
    if chance > alpha:
        return None
    met = evidence.so_far
    return (
        f"error rate against the baseline: {percent(met.errors.rate)} after {percent(met.control_errors.rate)}; a "
        f"ratio of {policy.max_error_ratio:g} gives so many in {chance:.2%} of rollouts, at most {alpha:.2%} was asked"
    )


def _waiting_for(evidence: Evidence, stage: StagePolicy, plan: RolloutPlan) -> list[str]:
    policy, met, waiting = plan.policy, evidence.met, []
    hours = stage.hours * policy.duration_scale
    if evidence.hours < hours:
        least, so_far = duration(hours * 3600), duration(evidence.hours * 3600, down=True)
        waiting.append(f"{evidence.stage} lasts at least {least}; {so_far} so far")
    if needs := more_requests(evidence, plan):
        waiting.append(f"{needs} to the new version")
    if arms_are_uneven(met.new, met.control, policy.srm_alpha):
        waiting.append(f"{met.new} {plan.unit}s met the new version and {met.control} the control, drawn alike")
    return waiting


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
    more = min(more, 1e9)
    at_best = Shares(met.errors.units + int(more), met.errors.total + more * usual)
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


def _summary(evidence: Evidence) -> str:
    new = evidence.new
    return (
        f"{new.requests} requests, {new.errors} errors, {new.ratings} ratings, "
        f"satisfaction {stars(new)} after {stars(evidence.baseline)}"
    )
