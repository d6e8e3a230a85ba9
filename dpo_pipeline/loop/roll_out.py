"""One step of a rollout: gather the evidence, let `core.rollout` decide, move the ledger, tell people.

What a person orders is in `manual_actions`, what they do in MLflow in `reconcile_registry`.
"""

import math
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import Any

from dpo_pipeline.core.exposure import NO_AUDIENCE, RolloutPlan, plan_rollout
from dpo_pipeline.core.rollout import RolloutDecision, decide, next_stage
from dpo_pipeline.loop.forecast import last_week
from dpo_pipeline.loop.notify import tell
from dpo_pipeline.loop.rollout_evidence import OpenVotes, as_recorded, gather
from dpo_pipeline.settings import RolloutPolicy, Settings
from dpo_pipeline.stores.ledger import DeploymentState, Ledger


def decide_now(
    settings: Settings,
    ledger: Ledger,
    votes: OpenVotes,
    name: str,
    actor: str,
    now: datetime | None = None,
) -> RolloutDecision:
    """Start, promote, hold or roll back `name`, and record it. Safe to repeat: a stale epoch is refused.

    People are told of a rollback, and once a stage where the version waits for what a person decides.

    Args:
        votes: opened in staging only: nobody may have to wait for the warehouse before a version in the traffic
            is rolled back.
        now: the moment to decide for; null: by the clock.

    Raises:
        StaleEpoch: somebody else moved the rollout meanwhile.
    """
    record, state, moment = ledger.version(name), ledger.deployment(), now or datetime.now(UTC)
    if record.status == "registered":
        if state.challenger:
            return RolloutDecision("hold", (f"{state.challenger} is being rolled out; one version at a time",))
        return _start(settings, ledger, state, name, actor, moment)
    if name not in (state.challenger, state.champion):
        return RolloutDecision("hold", (f"{name} is {record.status}; there is nothing to decide",))
    if state.stage is None:
        return RolloutDecision("hold", (f"{name} is champion; no version is being rolled out",))
    plan = plan_of(state, settings.rollout)
    evidence = gather(settings.serving_log_dir, ledger, state, plan, moment, votes)
    # A person asked for a pause, so waiting long is no reason to roll the version back; harm still is.
    unlimited = {"stage_limit": math.inf, "staging_limit_h": math.inf} if state.paused else {}
    decision = decide(evidence, replace(plan, policy=plan.policy.model_copy(update=unlimited)))
    if state.paused and decision.decision == "promote":
        reasons = ("paused by a person; it would be promoted now", *decision.reasons)
        decision = RolloutDecision("hold", reasons, decision.conditions)
    shown = as_recorded(evidence, decision.conditions)
    if decision.decision == "hold":
        _hold(settings, ledger, state, decision, shown, actor)
    elif decision.decision == "rollback":
        if state.challenger or state.previous:
            ledger.roll_back(state.epoch, decision.reasons, shown, actor)
            tell(settings, f"{name} is rolled back", "\n".join(decision.reasons))
    else:
        stage = next_stage(state.stage)
        assert stage is not None
        ledger.promote(stage, state.epoch, decision.reasons, shown, actor)
    return decision


def _start(
    settings: Settings, ledger: Ledger, state: DeploymentState, name: str, actor: str, now: datetime
) -> RolloutDecision:
    """Begin with staging: the plan is kept in the ledger, and what is forecast of it beside the decision."""
    usage = last_week(settings, now)
    plan = plan_rollout(settings.rollout, usage.counted)
    reasons = ("registered and improved: the A/B test begins", describe_plan(plan))
    evidence = {"forecast": asdict(usage.forecast(settings.rollout))}
    ledger.start_rollout(name, state.epoch, reasons, actor, plan.to_json(), evidence)
    return RolloutDecision("promote", reasons, begins=True)


def _hold(
    settings: Settings,
    ledger: Ledger,
    state: DeploymentState,
    decision: RolloutDecision,
    evidence: dict[str, Any],
    actor: str,
) -> None:
    """Record it. A person who has to decide is told when that begins, and not again at every look."""
    newest = ledger.decisions(state.subject)[-1:]
    told = any(each.decision == "hold" and each.epoch == state.epoch and each.evidence.get("asked") for each in newest)
    ledger.record_hold(state.epoch, decision.reasons, evidence | {"asked": decision.asks or told}, actor)
    if decision.asks and not told:
        tell(
            settings,
            f"{state.subject} is waiting for you: does it go from {state.stage} to {next_stage(str(state.stage))}?",
            "\n".join(decision.reasons) + f"\nGo on: `dpo rollout promote --reason …`. Roll back: `dpo rollout abort "
            f"--reason …`. Or either with one click: {settings.serving_address}/rollout",
        )


def plan_of(state: DeploymentState, policy: RolloutPolicy) -> RolloutPlan:
    """What the rollout began with; one from before plans were kept goes on by the settings, with people as units."""
    if state.plan:
        return RolloutPlan.from_json(state.plan)
    return RolloutPlan(policy, "person", NO_AUDIENCE, 0.0)


def describe_plan(plan: RolloutPlan) -> str:
    """The plan in a sentence."""
    who = plan.audience
    week = f"last week {who.people} people sent {who.requests} requests" if who.requests else "nobody used it last week"
    return f"{week}: assigned by {plan.unit}, {plan.shadow_share:.0%} of requests are shadowed"
