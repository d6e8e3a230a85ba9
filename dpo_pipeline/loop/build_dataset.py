"""The pairs that one version is trained on: a split by prompts, pinned by the hash of its content."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from dpo_pipeline.core.augmentation import mixed
from dpo_pipeline.core.dataset import LabelledAnswer, Pair, Split, check_answers, split_pairs, with_labelled
from dpo_pipeline.core.feedback import FeedbackMark
from dpo_pipeline.core.labels import TrainableFeedback
from dpo_pipeline.core.lifecycle import ACCEPTED, RECORDED
from dpo_pipeline.core.validated_pair import SET_ASIDE
from dpo_pipeline.core.versions import check_is_later, iteration
from dpo_pipeline.loop.attempts import attempt_of
from dpo_pipeline.loop.cadence import next_training
from dpo_pipeline.loop.label import GivenFeedback, feedback_of, summary_of, trainable_feedback
from dpo_pipeline.loop.set_aside import find_suspects, set_aside
from dpo_pipeline.ml.training_plan import write_dataset
from dpo_pipeline.settings import DpoRecipe, Settings
from dpo_pipeline.stores.bank import held_out_prompts, held_out_texts
from dpo_pipeline.stores.curation import LabelSummary
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
        ArtifactMissing: v1.0 has no pairs.
        DatasetTooSmall: what is left after exclusions is no training.
        RebuildDiffers: the version is registered, and its pairs would be others now; nothing was written.
    """
    check_is_later(name)
    versions = ledger.versions()
    own = next((record for record in versions if record.name == name), None)
    # What a person excluded or a rollback put in question a moment ago must not be trained on.
    set_aside(settings, warehouse, find_suspects(ledger))
    apply_reviews(warehouse, settings.reviews_log, settings.review_table)
    given = feedback_of(settings, warehouse)
    if own and own.dataset_hash:  # which feedback it sees is pinned
        given = given.up_to(FeedbackMark(**own.feedback_mark) if own.feedback_mark else None)
    feedback = trainable_feedback(settings, given)
    counted = summary_of(feedback)
    recipe = _recipe(settings, ledger, own, counted)
    after, up_to = _range(versions, name, own, warehouse.tally("valid"), recipe)
    pairs, labelled = _unseen(feedback, given, _accepted_before(versions, name), recipe)
    split = split_pairs(
        [*warehouse.valid_pairs(after, up_to), *pairs],
        held_out_prompts(settings),
        settings.evaluation.eval_share,
        # Answers by themselves make a training too.
        0 if recipe.objective == "kto" else recipe.batch_size,
    )
    if recipe.objective == "kto":
        split = with_labelled(split, labelled, settings.evaluation.eval_share)
        check_answers(2 * len(split.train) + len(split.labelled), recipe.batch_size)
    if settings.augmentation.enabled:
        synthetic = read_synthetic(settings.synthetic_pairs)
        split = mixed(split, synthetic, settings.augmentation.max_share, held_out_texts(settings))
    if questioned := warehouse.set_aside_between(after, up_to) + counted.set_aside:
        split = replace(split, left_out={**split.left_out, SET_ASIDE: questioned})
    # Recorded first: what differs from a registered version is refused before anything is published.
    mark = msgspec.to_builtins(given.mark)
    could_label = len(feedback.labelled) if recipe.objective == "kto" else 0
    ledger.record_dataset(name, split.content_hash, len(split.train), up_to, mark, len(feedback.pairs), could_label)
    return BuiltDataset(write_dataset(settings, split), split, after, up_to)


def _unseen(
    feedback: TrainableFeedback, given: GivenFeedback, accepted: list[VersionRecord], recipe: DpoRecipe
) -> tuple[Sequence[Pair], Sequence[LabelledAnswer]]:
    """What a version trains on of it: all, or what no accepted version has seen, each by what it could learn from."""
    if recipe.pairs == "all":
        return feedback.pairs, feedback.labelled

    def seen_by(versions: Iterable[VersionRecord]) -> set[str]:
        return given.read_up_to(FeedbackMark(**each.feedback_mark) for each in versions if each.feedback_mark)

    in_pairs, in_labels = seen_by(accepted), seen_by(each for each in accepted if each.labelled)
    return (
        [pair for pair in feedback.pairs if pair.event_id not in in_pairs],
        [answer for answer in feedback.labelled if answer.event_id not in in_labels],
    )


def _recipe(settings: Settings, ledger: Ledger, own: VersionRecord | None, said: LabelSummary) -> DpoRecipe:
    """By which it is trained next: a registered version by its own, a new one by what the cadence counts."""
    if own and own.status in RECORDED and own.recipe:
        return DpoRecipe(**own.recipe)
    if own and own.dataset_hash:
        return attempt_of(settings, own).recipe
    objective = next_training(settings, ledger, datetime.now(UTC), said).objective
    return settings.recipe.model_copy(update={"objective": objective})


def _range(
    versions: list[VersionRecord], name: str, own: VersionRecord | None, valid_now: int, recipe: DpoRecipe
) -> tuple[int, int]:
    up_to = own.pairs_seen if own and own.dataset_hash else valid_now
    earlier = [v.pairs_seen for v in _accepted_before(versions, name)]
    return (max(earlier, default=0) if recipe.pairs == "new" else 0), up_to


def _accepted_before(versions: list[VersionRecord], name: str) -> list[VersionRecord]:
    return [v for v in versions if v.status in ACCEPTED and iteration(v.name) < iteration(name)]
