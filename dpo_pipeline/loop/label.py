"""What people said of answers, as pairs and labelled answers that a version can be trained on."""

from dpo_pipeline.core.labels import TrainableFeedback, trainable
from dpo_pipeline.loop.demonstrations import all_feedback, said_in
from dpo_pipeline.settings import Settings
from dpo_pipeline.stores.bank import held_out_prompts
from dpo_pipeline.stores.curation import LabelSummary, publish_labels
from dpo_pipeline.stores.warehouse import Warehouse


def trainable_feedback(
    settings: Settings, warehouse: Warehouse, since: str = "", until: str | None = None
) -> TrainableFeedback:
    """
    Args:
        since, until: moments in RFC 3339; only what was given after the one and up to the other is looked at.
    """

    def is_meant(moment: str) -> bool:
        return since < moment and (until is None or moment <= until)

    said = [said_in(each) for each in all_feedback(settings.serving_log_dir) if is_meant(each.recorded_at)]
    both_bad = [vote for vote in warehouse.both_bad() if is_meant(vote.recorded_at)]
    shares = settings.collection.feedback_shares
    return trainable(said, both_bad, held_out_prompts(settings), settings.quality, shares)


def label(settings: Settings, warehouse: Warehouse) -> TrainableFeedback:
    """All there is now; its counts are published for whoever asks whether a version is due."""
    found = trainable_feedback(settings, warehouse)
    publish_labels(
        settings.label_summary,
        LabelSummary(len(found.pairs), len(found.labelled), found.sources, found.left_out),
    )
    return found
