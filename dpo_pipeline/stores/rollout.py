"""One step of the rollout: gather the evidence, let `core.rollout` decide, move the ledger, show it in MLflow."""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta

from dpo_pipeline.core.harm import Events, Opinions
from dpo_pipeline.core.rollout import (
    STAGES,
    Evidence,
    Metrics,
    People,
    RolloutDecision,
    ab_win_rates,
    decide,
    next_stage,
    traffic_of,
)
from dpo_pipeline.core.winrate import Outcome
from dpo_pipeline.errors import RegistryUnavailable
from dpo_pipeline.settings import Settings
from dpo_pipeline.stores.ledger import DeploymentState, Ledger, utc_text
from dpo_pipeline.stores.registry import Registry
from dpo_pipeline.stores.serving_log import stage_metrics

WATCH_AFRESH = timedelta(days=1)
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
            nobody may have to wait for the warehouse before a version in the traffic is taken back.
        now: the moment to decide for; null: by the clock.

    Raises:
        StaleEpoch: somebody else moved the rollout meanwhile.
    """
    record, state = ledger.version(name), ledger.deployment()
    if record.status == "registered":
        if state.challenger:
            return RolloutDecision("hold", (f"{state.challenger} is being rolled out; one version at a time",))
        reasons = ("registered and improved: the A/B test begins",)
        ledger.start_rollout(name, state.epoch, reasons, actor)
        return RolloutDecision("promote", reasons)
    if name not in (state.challenger, state.champion):
        return RolloutDecision("hold", (f"{name} is {record.status}; there is nothing to decide",))
    if state.stage is None:
        return RolloutDecision("hold", (f"{name} is champion; no version is being rolled out",))
    evidence = gather(settings, ledger, state, head_to_head, now or datetime.now(UTC))
    # A person asked for a pause, so waiting long is no reason to take the version back; harm still is.
    unlimited = {"stage_limit": math.inf, "staging_limit_h": math.inf} if state.paused else {}
    decision = decide(evidence, settings.rollout.model_copy(update=unlimited))
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


def gather(
    settings: Settings, ledger: Ledger, state: DeploymentState, head_to_head: HeadToHead, now: datetime
) -> Evidence:
    """What is known now of the version in its stage, against a concurrent control.

    At full traffic there is no control left: baseline and control are those the last promotion was decided on.
    """
    assert state.stage and state.stage_since
    new, baseline = state.subject, state.baseline
    assert new and baseline
    policy = settings.rollout
    since, day = counted_since(state, now)
    ours, theirs, people = stage_metrics(
        settings.serving_log_dir,
        since,
        new,
        baseline,
        traffic_of(state.stage, policy),
        policy.max_p99_ms,
    )
    if not state.challenger:
        theirs, people = _as_promoted(ledger, new, people)
    ab, ab_without = ab_win_rates(head_to_head(new, baseline) if state.stage == STAGES[0] else (), policy)
    return Evidence(
        stage=state.stage,
        hours=_hours_since(state.stage_since, now),
        ab=ab,
        new=ours,
        baseline=theirs,
        people=people,
        ab_without=ab_without,
        day=day,
    )


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


def _as_promoted(ledger: Ledger, name: str, people: People) -> tuple[Metrics, People]:
    """Baseline of the last promotion, and the people of now beside its control; empty where nothing was promoted."""
    promotions = [d for d in ledger.decisions(name) if d.decision == "promote" and "baseline" in d.evidence]
    if not promotions:
        return Metrics(), people
    then = promotions[-1].evidence
    control, bad = Opinions(**then["people"]["control_opinions"]), Events(**then["people"]["bad"])
    beside = replace(people.bad, control_people=bad.control_people, control_bad=bad.control_bad)
    return Metrics(**then["baseline"]), replace(people, bad=beside, control_opinions=control)


def counted_since(state: DeploymentState, now: datetime) -> tuple[str, int]:
    """From when on evidence counts, and which day of watching it is.

    The begin of the stage and 1; at full traffic, the begin of the day since then: full traffic lasts for months, and
    beside a month of good answers the failures of an hour would not be seen.
    """
    assert state.stage_since
    if state.challenger:
        return state.stage_since, 1
    begin = datetime.fromisoformat(state.stage_since)
    days = max((now - begin) // WATCH_AFRESH, 0)
    return utc_text(begin + days * WATCH_AFRESH), days + 1


def _hours_since(moment: str, now: datetime) -> float:
    return max((now - datetime.fromisoformat(moment)).total_seconds() / 3600, 0.0)
