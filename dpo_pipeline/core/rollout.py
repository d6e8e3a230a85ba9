"""Stages and measurements → promote | hold | rollback, with reasons.

The schedule and `should_rollback` are the user's own rules on point estimates. Reading logs and
moving the ledger belong elsewhere.
"""

import hashlib
from dataclasses import dataclass, field
from typing import Literal

from dpo_pipeline.core.winrate import WinRate
from dpo_pipeline.settings import RolloutPolicy, StagePolicy

STAGES = ("staging", "canary", "small", "half", "full")
Decision = Literal["promote", "hold", "rollback"]


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
class Evidence:
    """All that a decision looks at. `hours` is the time in the stage, already unscaled."""

    stage: str
    hours: float
    ab: WinRate
    new: Metrics = field(default_factory=Metrics)
    baseline: Metrics = field(default_factory=Metrics)


@dataclass(frozen=True)
class RolloutDecision:
    decision: Decision
    reasons: tuple[str, ...]


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


def gets_challenger(user: str, challenger: str, traffic: float) -> bool:
    """Whether this user is served the challenger: always the same answer while traffic does not shrink.

    A user's place in [0, 1) hangs on the user and the challenger alone, so raising the traffic only
    ever moves people from the champion to the challenger, and a restart moves nobody.
    """
    digest = hashlib.blake2b(f"{challenger}\0{user}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") / 2**64 < traffic


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


def decide(evidence: Evidence, policy: RolloutPolicy) -> RolloutDecision:
    """What to do with the version that is being rolled out. No data holds; it never promotes."""
    if evidence.stage == "staging":
        return _decide_staging(evidence, policy)
    stage = stage_policy(evidence.stage, policy)
    # One error of one request is no rate: the rules speak once the minimum exposure is there.
    seen = evidence.new.requests >= policy.min_requests
    bad = should_rollback(evidence.new, evidence.baseline, policy) if seen else []
    bad += _stage_limits(evidence, stage, policy) if seen else []
    if bad:
        return RolloutDecision("rollback", tuple(bad))
    waiting = _waiting_for(evidence, stage, policy)
    hours = stage.hours * policy.duration_scale
    if waiting and hours and evidence.hours > policy.stage_limit * hours:
        return RolloutDecision("rollback", (f"still undecided after {policy.stage_limit:g} × {hours:g} h", *waiting))
    if waiting:
        return RolloutDecision("hold", tuple(waiting))
    if next_stage(evidence.stage) is None:
        return RolloutDecision("hold", ("full traffic; watched all the time",))
    return RolloutDecision("promote", (f"{evidence.stage}: no condition for a rollback holds", _summary(evidence.new)))


def _decide_staging(evidence: Evidence, policy: RolloutPolicy) -> RolloutDecision:
    ab = evidence.ab
    limit = policy.staging_limit_h * policy.duration_scale
    if ab.count >= policy.min_ab_votes and ab.low > 0.5:
        return RolloutDecision("promote", (f"A/B test won: {ab}",))
    if ab.count >= policy.min_ab_votes and ab.high < 0.5:
        return RolloutDecision("rollback", (f"A/B test lost: {ab}",))
    if evidence.hours > limit:
        return RolloutDecision("rollback", (f"A/B test undecided after {limit:g} h: {ab}",))
    return RolloutDecision("hold", (f"A/B test undecided: {ab}; {policy.min_ab_votes} votes at the least",))


def _stage_limits(evidence: Evidence, stage: StagePolicy, policy: RolloutPolicy) -> list[str]:
    """The limits of the stage table."""
    reasons: list[str] = []
    new, baseline = evidence.new, evidence.baseline
    if stage.max_error_rate is not None and new.error_rate is not None and new.error_rate > stage.max_error_rate:
        reasons.append(f"error rate {new.error_rate:.2%} > {stage.max_error_rate:.0%} in stage {evidence.stage}")
    rated = min(new.ratings, baseline.ratings) >= max(policy.min_ratings, 1)
    if rated and (new.satisfaction or 0.0) < (baseline.satisfaction or 0.0):
        reasons.append(f"satisfaction {new.satisfaction:.2f} < baseline {baseline.satisfaction:.2f}")
    return reasons


def _waiting_for(evidence: Evidence, stage: StagePolicy, policy: RolloutPolicy) -> list[str]:
    waiting = []
    hours = stage.hours * policy.duration_scale
    if evidence.hours < hours:
        waiting.append(f"{evidence.stage} lasts at least {hours:.3g} h, {evidence.hours:.3g} h so far")
    if evidence.new.requests < policy.min_requests:
        waiting.append(f"{evidence.new.requests} of {policy.min_requests} requests to the new version")
    if evidence.new.ratings < policy.min_ratings:
        waiting.append(f"{evidence.new.ratings} of {policy.min_ratings} ratings of the new version")
    return waiting


def _summary(metrics: Metrics) -> str:
    satisfaction = "none" if metrics.satisfaction is None else f"{metrics.satisfaction:.2f}"
    return (
        f"{metrics.requests} requests, {metrics.errors} errors, {metrics.ratings} ratings, satisfaction {satisfaction}"
    )
