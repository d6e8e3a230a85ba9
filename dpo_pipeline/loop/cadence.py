"""Is the next version due: what the cadence decision looks at, read from the ledger and the curation summary."""

from datetime import datetime

from dpo_pipeline.core.cadence import CadenceDecision, training_due, training_state, useful_labels
from dpo_pipeline.settings import Settings
from dpo_pipeline.stores.curation import read_labels, read_summary
from dpo_pipeline.stores.ledger import Ledger


def next_training(settings: Settings, ledger: Ledger, now: datetime) -> CadenceDecision:
    """Is the next version due, as sensor, report and `dpo status` see it."""
    valid = read_summary(settings.curation_summary).valid
    said, cadence = read_labels(settings.label_summary), settings.cadence
    labels = useful_labels(said.pairs, said.labelled, settings.recipe.objective, cadence)
    state = training_state(ledger.versions(), ledger.deployment().challenger, valid, now, labels)
    return training_due(state, cadence)
