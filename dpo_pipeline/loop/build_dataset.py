"""The pairs that one version is trained on: a split by prompts, pinned by the hash of its content."""

from dataclasses import dataclass
from pathlib import Path

from dpo_pipeline.core.augmentation import mixed
from dpo_pipeline.core.cadence import useful_labels
from dpo_pipeline.core.dataset import Split, check_answers, split_pairs, with_labelled
from dpo_pipeline.core.labels import TrainableFeedback
from dpo_pipeline.core.lifecycle import ACCEPTED, RECORDED
from dpo_pipeline.core.versions import iteration
from dpo_pipeline.loop.label import trainable_feedback
from dpo_pipeline.ml.training_plan import write_dataset
from dpo_pipeline.settings import DpoRecipe, Settings
from dpo_pipeline.stores.bank import held_out_prompts, held_out_texts
from dpo_pipeline.stores.ledger import Ledger, VersionRecord
from dpo_pipeline.stores.reviews import apply_reviews
from dpo_pipeline.stores.synthetic import read_synthetic
from dpo_pipeline.stores.warehouse import Warehouse


@dataclass(frozen=True)
class BuiltDataset:
    """`after` and `up_to` are positions among the valid pairs, in the order of the log: (after, up_to]."""

    directory: Path
    split: Split
    after: int
    up_to: int


def build_dataset(settings: Settings, ledger: Ledger, warehouse: Warehouse, name: str) -> BuiltDataset:
    """Split the version's pairs, publish them and record them; the first time pins which pairs those are.

    Raises:
        DatasetTooSmall: what is left after exclusions is no training.
        RebuildDiffers: the version is registered, and its pairs would be others now; nothing was written.
    """
    versions = ledger.versions()
    own = next((record for record in versions if record.name == name), None)
    recipe = _recipe(settings, own)
    after, up_to = _range(versions, name, own, warehouse.tally("valid"), recipe)
    # A pair that a person excluded a moment ago must not be trained on.
    apply_reviews(warehouse, settings.reviews_log, settings.review_table)
    feedback = _feedback(settings, warehouse, versions, name, own, recipe)
    split = split_pairs(
        [*warehouse.valid_pairs(after, up_to), *feedback.pairs],
        held_out_prompts(settings),
        settings.evaluation.eval_share,
        # Answers by themselves make a training too.
        0 if recipe.objective == "kto" else recipe.batch_size,
    )
    if recipe.objective == "kto":
        split = with_labelled(split, feedback.labelled)
        check_answers(2 * len(split.train) + len(split.labelled), recipe.batch_size)
    if settings.augmentation.enabled:
        synthetic = read_synthetic(settings.synthetic_pairs)
        split = mixed(split, synthetic, settings.augmentation.max_share, held_out_texts(settings))
    # Recorded first: what differs from a registered version is refused before anything is published.
    worth = useful_labels(len(feedback.pairs), len(feedback.labelled), recipe.objective, settings.cadence)
    ledger.record_dataset(name, split.content_hash, len(split.train), up_to, feedback.until or None, worth)
    return BuiltDataset(write_dataset(settings, split), split, after, up_to)


def _feedback(
    settings: Settings,
    warehouse: Warehouse,
    versions: list[VersionRecord],
    name: str,
    own: VersionRecord | None,
    recipe: DpoRecipe,
) -> TrainableFeedback:
    """What people said of answers; of a version whose pairs are pinned already, what they had said by then."""
    seen = [v.feedback_until for v in _accepted_before(versions, name) if v.feedback_until]
    since = max(seen, default="") if recipe.pairs == "new" else ""
    if own is None or not own.pairs_seen:
        return trainable_feedback(settings, warehouse, since)
    if own.feedback_until is None:
        return TrainableFeedback()
    return trainable_feedback(settings, warehouse, since, own.feedback_until)


def _recipe(settings: Settings, own: VersionRecord | None) -> DpoRecipe:
    """That of the settings; a registered version is rebuilt by its own."""
    if own and own.status in RECORDED and own.recipe:
        return DpoRecipe(**own.recipe)
    return settings.recipe


def _range(
    versions: list[VersionRecord], name: str, own: VersionRecord | None, valid_now: int, recipe: DpoRecipe
) -> tuple[int, int]:
    up_to = own.pairs_seen if own and own.pairs_seen else valid_now
    earlier = [v.pairs_seen for v in _accepted_before(versions, name)]
    return (max(earlier, default=0) if recipe.pairs == "new" else 0), up_to


def _accepted_before(versions: list[VersionRecord], name: str) -> list[VersionRecord]:
    return [v for v in versions if v.status in ACCEPTED and iteration(v.name) < iteration(name)]
