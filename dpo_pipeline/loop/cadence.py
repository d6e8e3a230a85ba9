"""Is the next version due: what the cadence decision looks at, read from the ledger and the curation summary."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from dpo_pipeline.core.cadence import CadenceDecision, training_due, training_state, unseen_feedback
from dpo_pipeline.loop.set_aside import not_set_aside
from dpo_pipeline.settings import Settings
from dpo_pipeline.stores.curation import LabelSummary, read_labels, read_summary
from dpo_pipeline.stores.ledger import Ledger, VersionRecord


def next_training(
    settings: Settings, ledger: Ledger, now: datetime, said: LabelSummary | None = None
) -> CadenceDecision:
    """Is the next version due, as sensor, report and `dpo status` see it.

    Args:
        said: what can be trained on of feedback; null: as it was counted last.
    """
    summary, cadence = read_summary(settings.curation_summary), settings.cadence
    said = said or read_labels(settings.label_summary)

    def worth(seen_by: Sequence[VersionRecord]) -> tuple[int, int]:
        return unseen_feedback(seen_by, said.pairs, said.labelled, cadence.labels_per_pair)

    state = training_state(ledger.versions(), ledger.deployment().challenger, summary.valid_beyond, now, worth)
    unsorted = next(iter(not_set_aside(ledger, summary)), None)
    return training_due(replace(state, unsorted=unsorted), cadence, settings.recipe)
