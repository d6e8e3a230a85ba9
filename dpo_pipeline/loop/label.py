"""What people said of answers, as pairs and labelled answers that a version can be trained on."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

from dpo_pipeline.core.feedback import FeedbackMark
from dpo_pipeline.core.labels import TrainableFeedback, trainable
from dpo_pipeline.core.usable_feedback import Said
from dpo_pipeline.core.votes import Preference
from dpo_pipeline.loop.demonstrations import said_in
from dpo_pipeline.settings import Settings
from dpo_pipeline.stores.bank import held_out_prompts
from dpo_pipeline.stores.curation import LabelSummary, publish_summary
from dpo_pipeline.stores.serving_log import placed_feedback
from dpo_pipeline.stores.warehouse import Warehouse

OPEN_DAYS = 2
"""Days to whose files records may still come: around midnight, and where the clock steps back."""


@dataclass(frozen=True)
class GivenFeedback:
    """All that was said of answers: (day, place, what) of the serving log, (sequence, vote) where both were bad."""

    said: tuple[tuple[str, int, Said], ...]
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

    def events(self) -> set[str]:
        return {said.event_id for _, _, said in self.said} | {vote.event_id for _, vote in self.both_bad}


def given_feedback(serving_log: Path, both_bad: Iterable[tuple[int, Preference]], votes: int) -> GivenFeedback:
    """
    Args:
        both_bad: votes that both answers were bad, each with its place among all.
        votes: how many there are of any kind.
    """
    said = tuple((day, place, said_in(record)) for day, place, record in placed_feedback(serving_log))
    per_day = Counter(day for day, _, _ in said)
    newest = {day: per_day[day] for day in sorted(per_day)[-OPEN_DAYS:]}
    if len(newest) == 1:  # what is written late may be of the day before
        newest[(date.fromisoformat(min(newest)) - timedelta(days=1)).isoformat()] = 0
    return GivenFeedback(said, tuple(both_bad), FeedbackMark(newest, votes))


def trainable_feedback(settings: Settings, given: GivenFeedback) -> TrainableFeedback:
    return trainable(
        [said for _, _, said in given.said],
        [vote for _, vote in given.both_bad],
        held_out_prompts(settings),
        settings.quality,
        settings.collection.feedback_shares,
    )


def label(settings: Settings, warehouse: Warehouse) -> TrainableFeedback:
    """All there is now; its counts are published for whoever asks whether a version is due."""
    given = given_feedback(settings.serving_log_dir, warehouse.both_bad(), warehouse.tally("recorded"))
    found = trainable_feedback(settings, given)
    summary = LabelSummary(len(found.pairs), len(found.labelled), found.sources, found.left_out)
    publish_summary(settings.label_summary, summary)
    return found
