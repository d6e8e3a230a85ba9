"""The rules for rolling a version back, each judged twice: literally on point estimates, and as a test.

The tests are valid however often one looks (`core.sequential_tests`). Evidence of harm rolls back; an absolute rule
that is triggered without evidence only holds the version where it is.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from dpo_pipeline.core.rollout.evidence import Evidence, Exposure, VersionMetrics
from dpo_pipeline.core.rollout.spending import EACH_OTHER, SEQUENCE
from dpo_pipeline.core.rollout.stages import STAGES, next_stage, stage_policy
from dpo_pipeline.core.sequential_tests import Shares, difference_bounds, ratio_e_value, share_bounds
from dpo_pipeline.settings import RolloutPolicy

COMPARED = ("error rate against the baseline", "satisfaction of the stage", "satisfaction against the baseline")
CONTROL_ALPHA = 0.05
"""Level of the bound on what the control meets of something, where it met it at all."""


@dataclass(frozen=True)
class Interval:
    """What a rule looks at, as a plot shows it: the point estimate, how sure it is, and the limit.

    A share of requests, or of satisfaction the difference to what is required, in points of five.
    """

    low: float
    point: float
    high: float
    limit: float
    unit: Literal["share", "points"] = "share"


@dataclass(frozen=True)
class Condition:
    """One rule, judged twice: `literal` on point estimates, `evidence` by a test; null where nothing was measured."""

    name: str
    literal: bool | None
    message: str
    evidence: bool | None
    test_message: str
    interval: Interval | None = None

    @property
    def state(self) -> str:
        return state_of(self.literal, self.evidence)


def state_of(literal: bool | None, evidence: bool | None) -> str:
    """What a rule comes to, in a word: evidence triggers it, point estimates alone are watched."""
    if evidence:
        return "triggered"
    if literal:
        return "watching"
    return "no data yet" if literal is None and evidence is None else "OK"


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


def _error_ratio(evidence: Evidence, policy: RolloutPolicy, alpha: float) -> Condition:
    met, ratio = evidence.so_far, policy.max_error_ratio
    new, baseline = _rate(met.errors, evidence.new.error_rate), _rate(met.control_errors, evidence.baseline.error_rate)
    e_value = ratio_e_value(evidence.events, ratio)
    measured = new is not None and baseline is not None
    return Condition(
        "error rate against the baseline",
        new > ratio * baseline and new > 0 if new is not None and baseline is not None else None,
        f"{percent(new)}, {ratio} × {percent(baseline)} allowed",
        e_value >= 1 / alpha if measured else None,
        f"e-value {e_value:.3g} of {1 / alpha:.0f}",
        _share_interval(met.errors, new, ratio * baseline, CONTROL_ALPHA) if baseline is not None else None,
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
    found, bounds = _beyond(limit, shares, control, alpha)
    message = f"{percent(rate)}, {limit:.0%} allowed"
    interval = _share_interval(shares, rate, limit, alpha)
    return Condition(name, None if rate is None else rate > limit, message, found, bounds, interval)


def _latency(evidence: Evidence, policy: RolloutPolicy, met: Exposure, alpha: float) -> Condition:
    p99 = evidence.new.p99_ms
    found, bounds = _beyond(0.01, met.slow, met.control_slow, alpha)
    message = f"{'no data' if p99 is None else f'{p99:.0f} ms'}, {policy.max_p99_ms:.0f} ms allowed"
    literal = None if p99 is None else p99 > policy.max_p99_ms
    interval = _share_interval(met.slow, met.slow.rate, 0.01, alpha)
    return Condition("p99 latency", literal, message, found, f"slower than that are {bounds}, 1% allowed", interval)


def _share_interval(shares: Shares, rate: float | None, limit: float, alpha: float) -> Interval | None:
    if rate is None or not shares.units:
        return None
    low, high = share_bounds(shares, alpha)
    return Interval(low, rate, high, limit)


def _beyond(limit: float, shares: Shares, control: Shares, alpha: float) -> tuple[bool | None, str]:
    """Whether there is evidence that a share lies beyond its limit for the new version and not for everybody.

    What the control meets as well, such as an outage of the engine, is not the version's doing: it holds the version by
    the letter of the rule, and does not roll it back.
    """
    low, high = share_bounds(shares, alpha)
    bounds = f"between {low:.1%} and {high:.1%} of {shares.units}"
    if not shares.units:
        return None, bounds
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
    return Condition(
        name,
        (new.satisfaction or 0.0) < ratio * (baseline.satisfaction or 0.0) if known else None,
        f"{stars(new)}, at least {ratio:g} × {stars(baseline)} required",
        None if math.isinf(low) else high < 0,
        "too few ratings to tell a difference" if math.isinf(low) else f"difference between {low:.2f} and {high:.2f}",
        None if math.isinf(low) else Interval(low, (low + high) / 2, high, 0.0, "points"),
    )


def harm_of(found: Sequence[Condition]) -> list[str]:
    """The rules of which there is evidence, in words."""
    return [f"{each.name}: {each.message}; {each.test_message}" for each in found if each.evidence]


def warnings_of(found: Sequence[Condition]) -> list[str]:
    """Absolute rules that are triggered on point estimates without evidence: no reason to roll back, none to roll out.

    Rules that compare two versions are triggered by chance every second time when the two are alike; `_open_questions`
    asks for bounds instead.
    """
    return [
        f"{each.name}: {each.message}, without evidence yet ({each.test_message})"
        for each in found
        if each.literal and each.name not in COMPARED
    ]


def _rate(shares: Shares, otherwise: float | None) -> float | None:
    return otherwise if shares.rate is None else shares.rate


def percent(rate: float | None) -> str:
    return "no data" if rate is None else f"{rate:.2%}"


def stars(metrics: VersionMetrics) -> str:
    return "no ratings" if metrics.satisfaction is None else f"{metrics.satisfaction:.2f}"
