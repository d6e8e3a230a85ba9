"""What a person orders about a rollout, the same from the page, the command line and the HTTP API.

One step at a time, with a reason and the person who gave it; never past a failed safety check or evidence of harm.
"""

from datetime import UTC, datetime
from typing import Literal

from dpo_pipeline.core.admission import check_reason
from dpo_pipeline.core.lifecycle import ACCEPTED
from dpo_pipeline.core.rollout import conditions, harm_of, next_stage
from dpo_pipeline.core.safety import SafetyCheck
from dpo_pipeline.errors import ArtifactError, NoRollout, StaleEpoch
from dpo_pipeline.loop.notify import tell
from dpo_pipeline.loop.recorded_adapter import adapter_of
from dpo_pipeline.loop.redactor import redactor
from dpo_pipeline.loop.roll_out import plan_of
from dpo_pipeline.loop.rollout_evidence import as_recorded, gather
from dpo_pipeline.request_errors import OrderRefused
from dpo_pipeline.settings import Settings
from dpo_pipeline.stores.ledger import DeploymentState, Ledger, VersionRecord

ManualAction = Literal["promote", "pause", "resume", "abort"]


def order(
    settings: Settings, ledger: Ledger, what: ManualAction, reason: str, actor: str, now: datetime | None = None
) -> DeploymentState:
    """Carry out a person's order and return what the ledger then holds.

    Args:
        reason: shown in the decision history; personal data in it is redacted.

    Raises:
        InvalidRequest: no fitting reason is given.
        OrderRefused: there is nothing to order about, the version must not go further, or somebody else moved the
            rollout first.
    """
    reasons = (redactor(settings.collection)(check_reason(reason)),)
    before = ledger.deployment()
    try:
        if what == "promote":
            return _promote(settings, ledger, reasons, actor, now or datetime.now(UTC))
        if what == "abort":
            after = ledger.roll_back(before.epoch, reasons, {}, actor)
            tell(settings, f"{before.subject} is rolled back", f"by {actor}: {reasons[0]}")
            return after
        return ledger.set_paused(what == "pause", before.epoch, reasons, actor)
    except (NoRollout, StaleEpoch) as error:
        raise OrderRefused(str(error)) from error


def make_champion(settings: Settings, ledger: Ledger, name: str, reason: str, actor: str) -> DeploymentState:
    """An accepted version serves everybody at once: what moving `champion` in MLflow does where that is an order.

    Raises:
        InvalidRequest: no fitting reason is given.
        UnknownVersion: there is no such version.
        OrderRefused: it serves everybody already, it must not, or somebody else moved the rollout first.
    """
    reasons = (redactor(settings.collection)(check_reason(reason)),)
    record, before = ledger.version(name), ledger.deployment()
    if name == before.champion:
        raise OrderRefused(f"{name} is the champion already.")
    if unfit := unfit_to_serve(settings, record, ledger.version(before.champion) if before.champion else None):
        raise OrderRefused(f"{name} does not become champion: {unfit}.")
    try:
        after = ledger.promote_manually(name, before.epoch, reasons, actor)
    except StaleEpoch as error:
        raise OrderRefused(str(error)) from error
    tell(settings, f"{name} is champion by manual promotion", f"by {actor}: {reasons[0]}")
    return after


def _promote(
    settings: Settings, ledger: Ledger, reasons: tuple[str, ...], actor: str, now: datetime
) -> DeploymentState:
    state = ledger.current_rollout()
    assert state.challenger and state.stage
    serving = ledger.version(state.champion) if state.champion else None
    if unfit := unfit_to_serve(settings, ledger.version(state.challenger), serving):
        raise OrderRefused(f"{state.challenger} is not promoted: {unfit}.")
    plan = plan_of(state, settings.rollout)
    evidence = gather(settings.serving_log_dir, ledger, state, plan, now)
    found = conditions(evidence, plan)
    if harm := harm_of(found):
        raise OrderRefused(
            f"{state.challenger} is not promoted: there is evidence of harm ({'; '.join(harm)}). The next check rolls "
            "it back."
        )
    following = next_stage(state.stage)
    assert following is not None  # a challenger is never at full traffic
    return ledger.promote(following, state.epoch, reasons, as_recorded(evidence, found), actor)


def unfit_to_serve(settings: Settings, record: VersionRecord, serving: VersionRecord | None) -> str:
    """Why a version must not serve more people than it does, after the one that serves now; empty where it may."""
    if record.status not in ACCEPTED:
        return f"{record.name} is {record.status}; only a version that was accepted and not rolled back may serve"
    measured = (record.evaluation or {}).get("measured") or {}
    if serving and record.base_sha and serving.base_sha and record.base_sha != serving.base_sha:
        return f"{record.name} is bound to another base model than {serving.name}, which serves"
    for safety in (measured.get("safety"), measured.get("safety_since")):
        if safety and SafetyCheck(**safety).fewer:
            return f"{record.name} {SafetyCheck(**safety)}"
    try:
        adapter_of(settings, record)
    except ArtifactError as error:
        return f"its adapter is not whole: {error}"
    return ""
