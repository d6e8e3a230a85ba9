"""One step of the rollout: gather the evidence, let `core.rollout` decide, move the ledger, show it in MLflow."""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from dpo_pipeline.core.ab_test import read_votes
from dpo_pipeline.core.exposure import NO_AUDIENCE, RolloutPlan, plan_rollout
from dpo_pipeline.core.harm import Events, Opinions, Shares
from dpo_pipeline.core.rollout import (
    STAGES,
    Evidence,
    Exposure,
    Metrics,
    RolloutDecision,
    decide,
    next_stage,
    traffic_of,
)
from dpo_pipeline.core.winrate import Outcome
from dpo_pipeline.errors import RegistryUnavailable
from dpo_pipeline.settings import RolloutPolicy, Settings
from dpo_pipeline.stores.ledger import DecisionRecord, DeploymentState, Ledger, utc_text
from dpo_pipeline.stores.registry import Registry
from dpo_pipeline.stores.serving_log import audience_of, stage_metrics

WATCHED_FOR = timedelta(days=1)
AUDIENCE_OF = timedelta(days=7)
HeadToHead = Callable[[str, str], Sequence[tuple[str, Outcome]]]


def decide_now(
    settings: Settings,
    ledger: Ledger,
    head_to_head: HeadToHead,
    name: str,
    actor: str,
    now: datetime | None = None,
) -> RolloutDecision:
    """Start, promote, hold or roll back `name`, and record it. Safe to repeat: a stale epoch is refused.

    Args:
        head_to_head: (new, baseline) → votes between the two, as (annotator, outcome for new). Asked in staging only:
            nobody may have to wait for the warehouse before a version in the traffic is rolled back.
        now: the moment to decide for; null: by the clock.

    Raises:
        StaleEpoch: somebody else moved the rollout meanwhile.
    """
    record, state, moment = ledger.version(name), ledger.deployment(), now or datetime.now(UTC)
    if record.status == "registered":
        if state.challenger:
            return RolloutDecision("hold", (f"{state.challenger} is being rolled out; one version at a time",))
        audience = audience_of(settings.serving_log_dir, moment - AUDIENCE_OF, moment)
        plan = plan_rollout(settings.rollout, audience)
        reasons = ("registered and improved: the A/B test begins", said_of(plan))
        ledger.start_rollout(name, state.epoch, reasons, actor, plan.to_json())
        return RolloutDecision("promote", reasons)
    if name not in (state.challenger, state.champion):
        return RolloutDecision("hold", (f"{name} is {record.status}; there is nothing to decide",))
    if state.stage is None:
        return RolloutDecision("hold", (f"{name} is champion; no version is being rolled out",))
    plan = plan_of(state, settings.rollout)
    evidence = gather(settings, ledger, state, plan, head_to_head, moment)
    # A person asked for a pause, so waiting long is no reason to roll the version back; harm still is.
    unlimited = {"stage_limit": math.inf, "staging_limit_h": math.inf} if state.paused else {}
    decision = decide(evidence, replace(plan, policy=plan.policy.model_copy(update=unlimited)))
    if state.paused and decision.decision == "promote":
        told = ("paused by a person; it would be promoted now", *decision.reasons)
        decision = RolloutDecision("hold", told, decision.conditions)
    shown = {**asdict(evidence), "conditions": [asdict(condition) for condition in decision.conditions]}
    if decision.decision == "hold":
        ledger.record_hold(state.epoch, decision.reasons, shown, actor)
    elif decision.decision == "rollback":
        if state.challenger or state.previous:
            ledger.roll_back(state.epoch, decision.reasons, shown, actor)
    else:
        stage = next_stage(state.stage)
        assert stage is not None
        ledger.promote(stage, state.epoch, decision.reasons, shown, actor)
    return decision


def plan_of(state: DeploymentState, policy: RolloutPolicy) -> RolloutPlan:
    """What the rollout began with; one from before plans were kept goes on by the settings, with people as units."""
    if state.plan:
        return RolloutPlan.from_json(state.plan)
    return RolloutPlan(policy, "person", NO_AUDIENCE, 0.0)


def said_of(plan: RolloutPlan) -> str:
    """The plan in a sentence."""
    who = plan.audience
    week = f"last week {who.people} people sent {who.requests} requests" if who.requests else "nobody used it last week"
    return f"{week}: assigned by {plan.unit}, {plan.shadow_share:.0%} of requests are shadowed"


def gather(
    settings: Settings,
    ledger: Ledger,
    state: DeploymentState,
    plan: RolloutPlan,
    head_to_head: HeadToHead,
    now: datetime,
) -> Evidence:
    """What is known now of the version in its rollout, against a concurrent control.

    At full traffic there is no control left: baseline and control are those the last promotion was decided on.
    """
    assert state.stage and state.stage_since
    new, baseline = state.subject, state.baseline
    assert new and baseline
    policy = plan.policy
    since, day = counted_since(state, now)
    ours, theirs, met = stage_metrics(
        settings.serving_log_dir,
        since,
        new,
        baseline,
        traffic_of(state.stage, policy),
        policy.max_p99_ms,
        plan.unit,
    )
    earlier: tuple[Exposure, ...] = ()
    promotions = _promotions(ledger, new)
    if state.challenger:
        earlier = _earlier_stages(promotions, state.stage)
    else:
        theirs, met = _as_promoted(promotions, met)
    staging = state.stage == STAGES[0]
    return Evidence(
        stage=state.stage,
        hours=_hours_since(state.stage_since, now),
        ab=read_votes(head_to_head(new, baseline), policy, plan.audience) if staging else None,
        new=ours,
        baseline=theirs,
        met=met,
        earlier=earlier,
        # Whoever is past staging won it, unless a person said so.
        ab_won=not staging and any(each.evidence.get("stage") == STAGES[0] for each in promotions),
        day=day,
    )


def _earlier_stages(promotions: Sequence[DecisionRecord], stage: str) -> tuple[Exposure, ...]:
    """What was met in the stages of this rollout that are over, as the promotions out of them were decided on."""
    over = STAGES[: STAGES.index(stage)]
    kept = {d.evidence.get("stage"): d.evidence for d in promotions}
    return tuple(_exposure(kept[each]["met"]) for each in over if each in kept and "met" in kept[each])


def _promotions(ledger: Ledger, name: str) -> list[DecisionRecord]:
    return [decision for decision in ledger.decisions(name) if decision.decision == "promote" and decision.evidence]


def _exposure(kept: dict[str, Any]) -> Exposure:
    """As a decision's evidence keeps it."""
    parts: dict[str, Any] = {
        name: value if isinstance(value, int) else _PARTS[name](**value) for name, value in kept.items()
    }
    return Exposure(**parts)


_PARTS: dict[str, Any] = {
    "bad": Events,
    **dict.fromkeys(("errors", "crashes", "slow", "control_errors", "control_crashes", "control_slow"), Shares),
    **dict.fromkeys(("opinions", "control_opinions"), Opinions),
}


def mirror(ledger: Ledger, registry: Registry, tolerate_outage: bool = False) -> bool:
    """Bring aliases and status tags in MLflow up to the ledger. False where MLflow is out and that is tolerated."""
    versions, state = ledger.versions(), ledger.deployment()
    numbers = {record.name: record.mlflow_version for record in versions if record.mlflow_version}
    statuses = {record.name: record.status for record in versions}
    roles = {"champion": state.champion, "challenger": state.challenger, "previous": state.previous}
    try:
        ordered = registry.mirror(state, numbers, statuses, ledger.mirrored().get("champion"))
        if not ordered:
            ledger.note_mirrored({alias: numbers[name] for alias, name in roles.items() if name in numbers})
    except RegistryUnavailable:
        if not tolerate_outage:
            raise
        return False
    return True


def _as_promoted(promotions: Sequence[DecisionRecord], met: Exposure) -> tuple[Metrics, Exposure]:
    """Baseline of the last promotion, and what is met now beside its control; empty where nothing was promoted."""
    kept = [promotion.evidence for promotion in promotions if "met" in promotion.evidence]
    if not kept:
        return Metrics(), met
    then = kept[-1]
    control = _exposure(then["met"])
    beside = replace(met.bad, control=control.bad.control, control_bad=control.bad.control_bad)
    return Metrics(**then["baseline"]), replace(met, bad=beside, control_opinions=control.control_opinions)


def counted_since(state: DeploymentState, now: datetime) -> tuple[str, int]:
    """From when on evidence counts, and which day of watching it is.

    The begin of the stage and 1; at full traffic, the begin of the day since then: full traffic lasts for months, and
    beside a month of good answers the failures of an hour would not be seen.
    """
    assert state.stage_since
    if state.challenger:
        return state.stage_since, 1
    begin = datetime.fromisoformat(state.stage_since)
    days = max((now - begin) // WATCHED_FOR, 0)
    return utc_text(begin + days * WATCHED_FOR), days + 1


def _hours_since(moment: str, now: datetime) -> float:
    return max((now - datetime.fromisoformat(moment)).total_seconds() / 3600, 0.0)
