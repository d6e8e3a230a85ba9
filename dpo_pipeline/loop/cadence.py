"""Is the next version due: what the cadence decision looks at, read from the ledger and the curation summary."""

from collections.abc import Sequence
from datetime import datetime

from dpo_pipeline.core.cadence import CadenceDecision, TrainingState, training_due
from dpo_pipeline.core.lifecycle import ACCEPTED, CLOSED
from dpo_pipeline.core.versions import BASELINE
from dpo_pipeline.settings import Settings
from dpo_pipeline.stores.curation import read_summary
from dpo_pipeline.stores.ledger import DeploymentState, Ledger, VersionRecord


def next_training(settings: Settings, ledger: Ledger, now: datetime) -> CadenceDecision:
    """Is the next version due, as sensor, report and `dpo status` see it."""
    valid = read_summary(settings.curation_summary).valid
    return training_due(training_state(ledger.versions(), ledger.deployment(), valid, now), settings.cadence)


def training_state(
    versions: Sequence[VersionRecord], deployment: DeploymentState, valid: int, now: datetime
) -> TrainingState:
    """What the cadence decision looks at; `valid` is the number of valid pairs so far."""
    trained = [record for record in versions if record.name != BASELINE]
    accepted = [record for record in trained if record.status in ACCEPTED]
    newest = trained[-1] if trained else None
    return TrainingState(
        unused=valid - max((record.pairs_seen for record in accepted), default=0),
        fresh=valid - max((record.pairs_seen for record in trained), default=0),
        accepted_versions=len(accepted),
        newest_was_given_up=newest is not None and newest.status in CLOSED,
        training_now=newest is not None and newest.status not in (*ACCEPTED, *CLOSED),
        rollout_of=deployment.challenger,
        hours_since_training=(now - datetime.fromisoformat(newest.created_at)).total_seconds() / 3600
        if newest
        else None,
    )
