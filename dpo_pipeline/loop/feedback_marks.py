"""How far each version had read people's feedback, put right after somebody's part of the logs is removed.

A version's mark counts records and votes. It is planned before anything is removed, kept in a file, and written to the
ledger once the logs are rewritten: interrupted in between, the next removal goes on with what was planned.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from dpo_pipeline.core.feedback import FeedbackMark
from dpo_pipeline.core.labels import BOTH_BAD
from dpo_pipeline.core.votes import Preference
from dpo_pipeline.loop.label import given_feedback, trainable_feedback
from dpo_pipeline.loop.trace import all_votes
from dpo_pipeline.settings import Settings
from dpo_pipeline.stores.artifacts import write_text
from dpo_pipeline.stores.ledger import Ledger
from dpo_pipeline.stores.serving_log import placed_feedback


def plan_marks(settings: Settings, people: Sequence[str], is_gone: Callable[[Preference], bool]) -> None:
    """
    Args:
        people: pseudonyms whose feedback will be removed.
        is_gone: whether this vote will be removed.
    """
    if _plan(settings.data_dir).exists():
        return  # of a removal that was interrupted: the logs may be half rewritten
    said = [(day, place) for day, place, each in placed_feedback(settings.serving_log_dir) if each.user in people]
    votes = [place for place, vote in _recorded(settings) if is_gone(vote)]
    with Ledger(settings.ledger_address) as ledger:
        marks = {each.name: FeedbackMark(**each.feedback_mark) for each in ledger.versions() if each.feedback_mark}
    planned = {
        name: FeedbackMark(
            {day: n - sum(at == day and place < n for at, place in said) for day, n in mark.days.items()},
            mark.votes - sum(place < mark.votes for place in votes),
        )
        for name, mark in marks.items()
    }
    write_text(_plan(settings.data_dir), json.dumps(msgspec.to_builtins(planned)))


def apply_marks(settings: Settings) -> None:
    """Once the logs are rewritten: the planned marks, and how much feedback each version has then seen."""
    both_bad = [(place, vote) for place, vote in _recorded(settings) if vote.vote == BOTH_BAD and vote.from_people]
    given = given_feedback(settings.serving_log_dir, both_bad, 0)
    planned = json.loads(_plan(settings.data_dir).read_text(encoding="utf-8"))
    with Ledger(settings.ledger_address) as ledger:
        for name, mark in planned.items():
            left = trainable_feedback(settings, given.up_to(FeedbackMark(**mark)))
            labelled = len(left.labelled) if ledger.version(name).labelled else 0
            ledger.forget_feedback(name, mark, len(left.pairs), labelled)
    settings.label_summary.unlink(missing_ok=True)  # the next `labelled_answers` counts again
    _plan(settings.data_dir).unlink()


def _recorded(settings: Settings) -> list[tuple[int, Preference]]:
    """Votes as curation counts them: each event once, in the order of the log."""
    events = {vote.event_id: vote for vote in reversed(list(all_votes(settings)))}
    return list(enumerate(reversed(events.values())))


def _plan(data_dir: Path) -> Path:
    return data_dir / "forgetting.json"
