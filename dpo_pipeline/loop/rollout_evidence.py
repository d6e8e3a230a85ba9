"""What is known of the version that is being rolled out: the serving log and the votes, as evidence to decide on."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

from dpo_pipeline.core.ab_test import read_votes
from dpo_pipeline.core.exposure import RolloutPlan
from dpo_pipeline.core.identity import BURST_WITHIN_H, Uncounted, burst
from dpo_pipeline.core.rollout import (
    MANUAL_PROMOTION,
    STAGES,
    Condition,
    Evidence,
    Exposure,
    VersionMetrics,
    traffic_of,
)
from dpo_pipeline.core.sequential_tests import Events, Opinions, Shares
from dpo_pipeline.core.stage_metrics import Stage, stage_metrics
from dpo_pipeline.core.winrate import Outcome
from dpo_pipeline.stores.ledger import DecisionRecord, DeploymentState, Ledger, utc_text
from dpo_pipeline.stores.serving_log import read_records

WATCHED_FOR = timedelta(days=1)
CLOCK_STEPS_BACK = timedelta(hours=1)
"""How far the clock may be set back in a stage, or on the first day at full traffic, without evidence being missed."""


class PeoplesVotes(Protocol):
    """As `stores.warehouse.counts.VoteCounts` has them: (annotator, outcome for `new`), in log order."""

    def head_to_head(self, new: str, baseline: str, count_unproven: bool = False) -> Sequence[tuple[str, Outcome]]: ...

    def unproven(self, new: str, baseline: str, since: str) -> Sequence[tuple[str, Outcome]]: ...

    def uncounted(self, new: str, baseline: str, count_unproven: bool) -> Uncounted: ...


OpenVotes = Callable[[], AbstractContextManager[PeoplesVotes]]


def gather(
    serving_log: Path,
    ledger: Ledger,
    state: DeploymentState,
    plan: RolloutPlan,
    now: datetime,
    votes: OpenVotes | None = None,
) -> Evidence:
    """What is known now of the version in its rollout, against a concurrent control.

    At full traffic there is no control left: baseline and control are those the last promotion was decided on.

    Args:
        votes: where those of staging are; null: they are not asked for.
    """
    assert state.stage and state.stage_since
    new, baseline = state.subject, state.baseline
    assert new and baseline
    policy = plan.policy
    since, day = counted_since(state, now)
    records = read_records(serving_log, _earlier(since, CLOCK_STEPS_BACK))
    stage = Stage(
        since=since,
        new=new,
        baseline=baseline,
        traffic=traffic_of(state.stage, policy),
        unit=plan.unit,
        epoch=_stage_epoch(ledger, new) if day == 1 else None,
        count_unproven=policy.count_unproven,
    )
    ours, theirs, met = stage_metrics(records, stage, policy.max_p99_ms)
    earlier: tuple[Exposure, ...] = ()
    promotions = _promotions(ledger, new)
    if state.challenger:
        earlier = _earlier_stages(promotions, state.stage)
    else:
        theirs, met = _as_promoted(promotions, met)
    staging = state.stage == STAGES[0]
    ab, crowd, left_out = None, "", ""
    if staging and votes:
        with votes() as store:
            ab = read_votes(store.head_to_head(new, baseline, policy.count_unproven), policy, plan.audience)
            left_out = str(store.uncounted(new, baseline, policy.count_unproven))
            if not policy.count_unproven:
                crowd = burst(store.unproven(new, baseline, utc_text(now - timedelta(hours=BURST_WITHIN_H))))
    return Evidence(
        stage=state.stage,
        hours=hours_since(state.stage_since, now),
        ab=ab,
        burst=crowd,
        uncounted=left_out,
        new=ours,
        baseline=theirs,
        met=met,
        earlier=earlier,
        # Whoever is past staging won it, unless a person promoted it: then no votes stand beside the promotion.
        ab_won=not staging
        and any(each.evidence.get("stage") == STAGES[0] and each.evidence.get("ab") for each in promotions),
        day=day,
    )


def as_recorded(evidence: Evidence, found: Sequence[Condition]) -> dict[str, Any]:
    """What the ledger keeps beside a decision: the evidence, and the rules as they were judged on it."""
    return {**asdict(evidence), "conditions": [asdict(each) for each in found]}


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


def _as_promoted(promotions: Sequence[DecisionRecord], met: Exposure) -> tuple[VersionMetrics, Exposure]:
    """Baseline of the last promotion, and what is met now beside its control; empty where nothing was promoted."""
    kept = [promotion.evidence for promotion in promotions if "met" in promotion.evidence]
    if not kept:
        return VersionMetrics(), met
    then = kept[-1]
    control = _exposure(then["met"])
    beside = replace(met.bad, control=control.bad.control, control_bad=control.bad.control_bad)
    return VersionMetrics(**then["baseline"]), replace(met, bad=beside, control_opinions=control.control_opinions)


def _stage_epoch(ledger: Ledger, name: str) -> int | None:
    """Of the newest promotion, which began the stage the version is at: pausing and holding begin none."""
    begun = [each.epoch for each in ledger.decisions(name) if each.decision in ("promote", MANUAL_PROMOTION)]
    return max(begun, default=None)


def _earlier(moment: str, by: timedelta) -> str:
    return utc_text(datetime.fromisoformat(moment) - by)


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


def hours_since(moment: str, now: datetime) -> float:
    return max((now - datetime.fromisoformat(moment)).total_seconds() / 3600, 0.0)
