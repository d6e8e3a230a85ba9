"""Is the next version due: what the cadence decision looks at, read from the ledger and the curation summary."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from dpo_pipeline.core.cadence import CadenceDecision, training_due, training_state, unseen_feedback
from dpo_pipeline.loop.set_aside import not_set_aside
from dpo_pipeline.settings import Settings
from dpo_pipeline.stores.curation import read_labels, read_summary
from dpo_pipeline.stores.ledger import Ledger, VersionRecord


def next_training(settings: Settings, ledger: Ledger, now: datetime) -> CadenceDecision:
    """Is the next version due, as sensor, report and `dpo status` see it."""
    summary = read_summary(settings.curation_summary)
    said, cadence = read_labels(settings.label_summary), settings.cadence

    def worth(seen_by: Sequence[VersionRecord]) -> int:
        objective, rate = settings.recipe.objective, cadence.labels_per_pair
        return unseen_feedback(seen_by, said.pairs, said.labelled, objective, rate)

    state = training_state(ledger.versions(), ledger.deployment().challenger, summary.valid_beyond, now, worth)
    return training_due(replace(state, unsorted=next(iter(not_set_aside(ledger, summary)), None)), cadence)
