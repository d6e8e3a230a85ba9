"""What people said of answers, as pairs and labelled answers that a version can be trained on, and for reviewers."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

from dpo_pipeline.core.feedback import FeedbackMark, described, label_of
from dpo_pipeline.core.labels import JUDGEMENTS, TrainableFeedback, trainable
from dpo_pipeline.core.serving_records import FeedbackRecord
from dpo_pipeline.core.validated_pair import CORRECTION, JUDGEMENT, TAKEN_OUT, ValidatedPair
from dpo_pipeline.core.votes import Preference, prompt_text
from dpo_pipeline.loop.demonstrations import said_in
from dpo_pipeline.settings import Settings
from dpo_pipeline.stores.bank import held_out_prompts
from dpo_pipeline.stores.curation import LabelSummary, publish_summary
from dpo_pipeline.stores.reviews import SHOWN, Review, ReviewLog, criteria_of, publish_validated_pairs
from dpo_pipeline.stores.serving_log import placed_feedback
from dpo_pipeline.stores.warehouse import Warehouse

OPEN_DAYS = 2
"""Days to whose files records may still come: around midnight, and where the clock steps back."""


@dataclass(frozen=True)
class GivenFeedback:
    """All that was said of answers: (day, place, record) of the serving log, (sequence, vote) where both were bad."""

    said: tuple[tuple[str, int, FeedbackRecord], ...]
    both_bad: tuple[tuple[int, Preference], ...]
    mark: FeedbackMark

    def up_to(self, mark: FeedbackMark | None) -> "GivenFeedback":
        """What had been read by then; null: nothing had."""
        if mark is None:
            return GivenFeedback((), (), FeedbackMark({}, 0))
        return GivenFeedback(
            tuple(each for each in self.said if mark.covers(each[0], each[1])),
            tuple(each for each in self.both_bad if each[0] < mark.votes),
            mark,
        )

    def of_answers_by(self, version: str) -> set[str]:
        """Ids of what was said of this version's answers."""
        said = {record.event_id for _, _, record in self.said if record.version == version}
        return said | {vote.event_id for _, vote in self.both_bad if version in (vote.model_a, vote.model_b)}

    def read_up_to(self, marks: Iterable[FeedbackMark]) -> set[str]:
        """Ids of what had been read by any of these."""
        return {event for mark in marks for event in self.up_to(mark).events()}

    def events(self) -> set[str]:
        return {record.event_id for _, _, record in self.said} | {vote.event_id for _, vote in self.both_bad}


def given_feedback(serving_log: Path, both_bad: Iterable[tuple[int, Preference]], votes: int) -> GivenFeedback:
    """
    Args:
        both_bad: votes that both answers were bad, each with its place among all.
        votes: how many there are of any kind.
    """
    said = tuple(placed_feedback(serving_log))
    per_day = Counter(day for day, _, _ in said)
    newest = {day: per_day[day] for day in sorted(per_day)[-OPEN_DAYS:]}
    if len(newest) == 1:  # what is written late may be of the day before
        newest[(date.fromisoformat(min(newest)) - timedelta(days=1)).isoformat()] = 0
    return GivenFeedback(said, tuple(both_bad), FeedbackMark(newest, votes))


def feedback_of(settings: Settings, warehouse: Warehouse) -> GivenFeedback:
    """All that was said by now."""
    return given_feedback(settings.serving_log_dir, warehouse.both_bad(), warehouse.tally("recorded"))


def trainable_feedback(
    settings: Settings, given: GivenFeedback, taken_out: Mapping[str, Review] | None = None
) -> TrainableFeedback:
    """
    Args:
        taken_out: by event id, what is not to be trained on; null: as the reviews have it now.
    """
    return trainable(
        [said_in(record) for _, _, record in given.said],
        [vote for _, vote in given.both_bad],
        held_out_prompts(settings),
        settings.quality,
        settings.collection.feedback_shares,
        criteria_of(ReviewLog(settings.reviews_log).taken_out() if taken_out is None else taken_out),
    )


def label(settings: Settings, warehouse: Warehouse) -> TrainableFeedback:
    """All there is now; published are its counts, for whoever asks whether a version is due, and what people review:
    corrections, and judgements that a rollback put in question.
    """
    given = feedback_of(settings, warehouse)
    taken_out = ReviewLog(settings.reviews_log).taken_out()
    found = trainable_feedback(settings, given, taken_out)
    publish_summary(settings.label_summary, summary_of(found))
    shown = (*_corrected(given, found.refused, taken_out), *_judged_and_taken_out(given, taken_out))
    newest = sorted(shown, key=lambda pair: pair.recorded_at)
    publish_validated_pairs(settings.correction_table, newest[: -SHOWN - 1 : -1])
    return found


def summary_of(found: TrainableFeedback) -> LabelSummary:
    return LabelSummary(len(found.pairs), len(found.labelled), found.sources, found.left_out)


def _corrected(
    given: GivenFeedback, refused: Mapping[str, str], taken_out: Mapping[str, Review]
) -> Iterator[ValidatedPair]:
    """Each correction as reviewers see it."""
    for _, _, record in given.said:
        if record.signal != "correction":
            continue
        reason = refused.get(record.event_id, "")
        review = taken_out.get(record.event_id)
        pair = _as_pair(
            record,
            model_b=CORRECTION,
            response_b=str(record.value),
            vote="b",
            source=CORRECTION,
            failed=(reason,) if reason and reason not in TAKEN_OUT.values() else (),
        )
        yield pair.reviewed(review.action, review.reason) if review else pair


def _judged_and_taken_out(given: GivenFeedback, taken_out: Mapping[str, Review]) -> Iterator[ValidatedPair]:
    """Thumbs and ratings that are not trained on, as reviewers see them: an answer, and what was said of it."""
    for _, _, record in given.said:
        review = taken_out.get(record.event_id)
        if record.signal not in JUDGEMENTS or review is None:
            continue
        pair = _as_pair(
            record,
            model_b=JUDGEMENT,
            response_b=described(record.signal, record.value),
            vote="a" if label_of(record.signal, record.value) else "both_bad",
            source=record.signal,
        )
        yield pair.reviewed(review.action, review.reason)


def _as_pair(
    record: FeedbackRecord, model_b: str, response_b: str, vote: str, source: str, failed: tuple[str, ...] = ()
) -> ValidatedPair:
    """What was said of an answer as reviewers see pairs: A is the answer."""
    return ValidatedPair(
        event_id=record.event_id,
        recorded_at=record.recorded_at,
        prompt=prompt_text(said_in(record).prompt),
        category="other",
        model_a=record.version,
        model_b=model_b,
        response_a=record.answer,
        response_b=response_b,
        vote=vote,
        annotator=record.user,
        source=source,
        failed=failed,
    )
