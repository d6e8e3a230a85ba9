"""The rules for rolling a version back, each judged twice: literally on point estimates, and as a test.

The tests are valid however often one looks (`core.sequential_tests`). Evidence of harm rolls back; an absolute rule
that is triggered without evidence only holds the version where it is.
"""

import math
from dataclasses import replace

from dpo_pipeline.core.exposure import RolloutPlan
from dpo_pipeline.core.rollout.condition import Condition, Interval, percent, stars
from dpo_pipeline.core.rollout.evidence import Evidence, Exposure, VersionMetrics
from dpo_pipeline.core.rollout.needs import more_ratings, more_requests
from dpo_pipeline.core.rollout.spending import EACH_OTHER, SEQUENCE
from dpo_pipeline.core.rollout.stages import STAGES, next_stage, stage_policy
from dpo_pipeline.core.sequential_tests import Shares, difference_bounds, ratio_e_value, share_bounds
from dpo_pipeline.settings import RolloutPolicy

FAILED, CRASHED = "requests that failed", "requests that crashed"
CONTROL_ALPHA = 0.05
"""Level of the bound on what the control meets of something, where it met it at all."""


def should_rollback(new: VersionMetrics, baseline: VersionMetrics, policy: RolloutPolicy) -> list[str]:
    """The literal rule: the conditions that are triggered, in words; empty means stay.

    Error rate above 1.5 × baseline, p99 above 2000 ms, satisfaction below 0.9 × baseline, crash
    rate above 1 %. A condition without a measurement is not triggered, and does not speak for the
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


def conditions(evidence: Evidence, plan: RolloutPlan) -> tuple[Condition, ...]:
    """Every rule for rolling a version back, on point estimates and as a test at its share of alpha.

    Day d of full traffic gets 1 / (d · (d + 1)) of that, which sums to 1: alpha holds for as long as it is watched.
    """
    policy, met = plan.policy, evidence.so_far
    alpha = policy.harm_alpha
    if next_stage(evidence.stage) is None:
        alpha /= evidence.day * (evidence.day + 1)
    other = EACH_OTHER * alpha
    needs, who = more_requests(evidence, plan), _met_by(evidence, plan)
    found = (
        _error_ratio(evidence, policy, SEQUENCE * alpha),
        _error_limit(evidence, policy, met, other, who),
        _crashes(evidence, policy, met, other, who),
        _latency(evidence, policy, met, other, who),
    )
    ratios = {"of the stage": 1.0, "against the baseline": policy.min_satisfaction_ratio}
    return (
        *(replace(each, needs=needs) for each in found if each),
        *(_satisfaction(f"satisfaction {name}", ratio, evidence, policy, other) for name, ratio in ratios.items()),
    )


def _met_by(evidence: Evidence, plan: RolloutPlan) -> str:
    """Who they are that shares are of: those of a stage, and of the stages of this rollout before it."""
    if evidence.stage == STAGES[0]:
        return "shadow copies"
    units = {"person": "people", "conversation": "conversations", "request": "requests"}[plan.unit]
    return f"{units} and shadow copies" if evidence.earlier else units


def _error_ratio(evidence: Evidence, policy: RolloutPolicy, alpha: float) -> Condition:
    met, ratio = evidence.so_far, policy.max_error_ratio
    new, baseline = _rate(met.errors, evidence.new.error_rate), _rate(met.control_errors, evidence.baseline.error_rate)
    e_value = ratio_e_value(evidence.events, ratio)
    measured = new is not None and baseline is not None
    return Condition(
        "error rate against the baseline",
        new > ratio * baseline and new > 0 if new is not None and baseline is not None else None,
        f"{_share(new, 'failed')}; {_allowed(ratio, baseline, 'control' if met.control_errors.units else 'baseline')}",
        e_value >= 1 / alpha if measured else None,
        f"evidence {e_value:.3g} of the {1 / alpha:.0f} that is needed (an e-value)",
        _share_interval(met.errors, new, ratio * baseline, CONTROL_ALPHA, FAILED) if baseline is not None else None,
    )


def _allowed(ratio: float, rate: float | None, whose: str) -> str:
    if rate is None:
        return f"nothing is measured of the {whose} yet"
    if not rate:
        return f"none of the {whose}'s did, so that any failure is more than {ratio:g} times as many"
    return f"up to {percent(ratio * rate)} may, {ratio:g} times the {whose}'s {percent(rate)}"


def _error_limit(evidence: Evidence, policy: RolloutPolicy, met: Exposure, alpha: float, who: str) -> Condition | None:
    """Null where the stage has no limit."""
    # What shadow copies fail at, the canary would fail at.
    stage = "canary" if evidence.stage == STAGES[0] else evidence.stage
    limit = stage_policy(stage, policy).max_error_rate
    if limit is None:
        return None
    rate, shares = _rate(met.errors, evidence.new.error_rate), met.errors
    found, bounds = _beyond(limit, shares, met.control_errors, alpha, who)
    message, interval = _up_to(rate, "failed", limit), _share_interval(shares, rate, limit, alpha, FAILED)
    return Condition("error rate of the stage", _above(rate, limit), message, found, bounds, interval)


def _crashes(evidence: Evidence, policy: RolloutPolicy, met: Exposure, alpha: float, who: str) -> Condition:
    limit, rate = policy.max_crash_rate, _rate(met.crashes, evidence.new.crash_rate)
    found, bounds = _beyond(limit, met.crashes, met.control_crashes, alpha, who)
    message, interval = _up_to(rate, "crashed", limit), _share_interval(met.crashes, rate, limit, alpha, CRASHED)
    return Condition("crash rate", _above(rate, limit), message, found, bounds, interval)


def _latency(evidence: Evidence, policy: RolloutPolicy, met: Exposure, alpha: float, who: str) -> Condition:
    p99, most = evidence.new.p99_ms, f"{policy.max_p99_ms:,.0f} ms"
    found, bounds = _beyond(0.01, met.slow, met.control_slow, alpha, who)
    message = f"p99 is {'not known yet' if p99 is None else f'{p99:,.0f} ms'} and may rise to {most}"
    interval = _share_interval(met.slow, met.slow.rate, 0.01, alpha, f"requests slower than {most}")
    tested = f"slower than that: {bounds}; 1% may be"
    return Condition("p99 latency", _above(p99, policy.max_p99_ms), message, found, tested, interval)


def _above(value: float | None, limit: float) -> bool | None:
    return None if value is None else value > limit


def _up_to(rate: float | None, what: str, limit: float) -> str:
    return f"{_share(rate, what)}; up to {limit:.0%} may"


def _share(rate: float | None, what: str) -> str:
    return "no answers yet" if rate is None else f"{percent(rate)} {what}"


def _share_interval(shares: Shares, rate: float | None, limit: float, alpha: float, axis: str) -> Interval | None:
    if rate is None or not shares.units:
        return None
    low, high = share_bounds(shares, alpha)
    return Interval(low, rate, high, limit, axis=axis)


def _beyond(limit: float, shares: Shares, control: Shares, alpha: float, who: str) -> tuple[bool | None, str]:
    """Whether there is evidence that a share lies beyond its limit for the new version and not for everybody.

    What the control meets as well, such as an outage of the engine, is not the version's doing: it holds the version by
    the letter of the rule, and does not roll it back.
    """
    if not shares.units:
        return None, "nothing is measured yet"
    low, high = share_bounds(shares, alpha)
    bounds = f"between {low:.1%} and {high:.1%}, by {shares.units:,} {who}"
    met = share_bounds(control, CONTROL_ALPHA)[1] if control.units and control.total else 0.0
    if limit < low <= met:
        return False, f"{bounds}, and the control may meet as much: up to {met:.1%}"
    return low > max(limit, met), bounds


def _satisfaction(name: str, ratio: float, evidence: Evidence, policy: RolloutPolicy, alpha: float) -> Condition:
    """Below `ratio` times the baseline: 1 is the rule of every stage, 0.9 that of `should_rollback`."""
    new, baseline, met = evidence.new, evidence.baseline, evidence.so_far
    rated = min(new.ratings, baseline.ratings) >= max(policy.min_ratings, 1)
    known = rated and new.satisfaction is not None and baseline.satisfaction is not None
    low, high = difference_bounds(met.opinions, met.control_opinions, alpha, ratio)
    told = not math.isinf(low)
    required = ratio * (met.control_opinions.mean if baseline.satisfaction is None else baseline.satisfaction)
    below, above = max(required + low, 1.0), min(required + high, 5.0)
    return Condition(
        name,
        (new.satisfaction or 0.0) < ratio * (baseline.satisfaction or 0.0) if known else None,
        f"{'no ratings yet' if new.satisfaction is None else f'{stars(new)} of 5'}; {_at_least(ratio, baseline)}",
        high < 0 if told else None,
        f"between {below:.2f} and {above:.2f}" if told else "too few ratings to tell a difference",
        Interval(below, required + (low + high) / 2, above, required, "stars", "stars, 1 to 5") if told else None,
        more_ratings(evidence, policy),
    )


def _at_least(ratio: float, baseline: VersionMetrics) -> str:
    if baseline.satisfaction is None:
        return "nobody has rated the baseline yet"
    share = "what the baseline has" if ratio == 1 else f"{ratio:g} times the baseline's {stars(baseline)}"
    return f"at least {ratio * baseline.satisfaction:.2f} required, {share}"


def _rate(shares: Shares, otherwise: float | None) -> float | None:
    return otherwise if shares.rate is None else shares.rate
