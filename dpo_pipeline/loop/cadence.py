"""Is the next version due: what the cadence decision looks at, read from the ledger and the curation summary."""

from collections.abc import Sequence
from datetime import datetime

from dpo_pipeline.core.cadence import CadenceDecision, training_due, training_state, unseen_feedback
from dpo_pipeline.settings import Settings
from dpo_pipeline.stores.curation import read_labels, read_summary
from dpo_pipeline.stores.ledger import Ledger, VersionRecord


def next_training(settings: Settings, ledger: Ledger, now: datetime) -> CadenceDecision:
    """Is the next version due, as sensor, report and `dpo status` see it."""
    valid = read_summary(settings.curation_summary).valid
    said, cadence = read_labels(settings.label_summary), settings.cadence

    def worth(seen_by: Sequence[VersionRecord]) -> int:
        objective, rate = settings.recipe.objective, cadence.labels_per_pair
        return unseen_feedback(seen_by, said.pairs, said.labelled, objective, rate)

    state = training_state(ledger.versions(), ledger.deployment().challenger, valid, now, worth)
    return training_due(state, cadence)
