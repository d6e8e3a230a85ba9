"""After a rollback for harm: what it puts in question, votes and other feedback, is set aside, each once; people may
restore it.
"""

from collections.abc import Iterable, Iterator, Mapping

from dpo_pipeline.core.admission import LONGEST_REASON
from dpo_pipeline.core.curation import CurationSummary
from dpo_pipeline.core.labels import TrainableFeedback
from dpo_pipeline.core.lifecycle import Status
from dpo_pipeline.core.rollout import HARM
from dpo_pipeline.core.set_aside import Read, Suspect, suspects
from dpo_pipeline.core.validated_pair import CORRECTION
from dpo_pipeline.loop.label import GivenFeedback, feedback_of, trainable_feedback
from dpo_pipeline.settings import Settings
from dpo_pipeline.stores.ledger import Ledger, utc_now
from dpo_pipeline.stores.logs import logs_of
from dpo_pipeline.stores.reviews import Review, ReviewLog
from dpo_pipeline.stores.warehouse import Warehouse

ACTOR = "rollback"


def find_suspects(ledger: Ledger) -> tuple[Suspect, ...]:
    """Versions that were rolled back for harm."""
    versions, harm = ledger.versions(), dict[str, str]()
    for record in versions:
        if record.status == Status.ROLLED_BACK:
            rollbacks = [each for each in ledger.decisions(record.name) if each.decision == "rollback"]
            harm |= {each.version: "; ".join(each.reasons[1:]) for each in rollbacks if each.reasons[0] == HARM}
    return suspects(versions, harm)


def not_set_aside(ledger: Ledger, summary: CurationSummary) -> list[str]:
    """Versions that were rolled back for harm, which curation has not dealt with yet."""
    return [each.version for each in find_suspects(ledger) if each.version not in summary.suspects]


def set_aside(settings: Settings, warehouse: Warehouse, found: tuple[Suspect, ...]) -> int:
    """Note in the reviews what is not set aside yet, votes and other feedback. Returns how much."""
    if not found:
        return 0
    given = feedback_of(settings, warehouse)
    trained_on = trainable_feedback(settings, given)
    said = [(suspect, event) for suspect in found for event in _questioned(suspect, given, trained_on)]
    return _note(settings, [*_votes(warehouse, found), *said])


def set_votes_aside(settings: Settings, warehouse: Warehouse, found: tuple[Suspect, ...]) -> int:
    """The votes alone: for each curation run, which shall not read all feedback again."""
    return _note(settings, _votes(warehouse, found))


def _votes(warehouse: Warehouse, found: tuple[Suspect, ...]) -> list[tuple[Suspect, str]]:
    return [
        (suspect, event)
        for suspect in found
        for event in warehouse.valid_events_of(suspect.version, suspect.after, suspect.up_to, suspect.accepted)
    ]


def _note(settings: Settings, questioned: list[tuple[Suspect, str]]) -> int:
    """Each once: what a person restored stays restored."""
    if not questioned:
        return 0
    log, now = ReviewLog(settings.reviews_log, logs_of(settings)), utc_now()
    known = log.review_ids()
    reviews = [
        Review(
            review_id=review_id,
            recorded_at=now,
            event_id=event_id,
            action="set_aside",
            reason=suspect.reason[:LONGEST_REASON],
            actor=ACTOR,
        )
        for suspect, event_id in questioned
        if (review_id := f"{suspect.version}-{ACTOR}-{event_id}") not in known
    ]
    log.append_all(reviews)
    return len(reviews)


def _questioned(suspect: Suspect, given: GivenFeedback, trained_on: TrainableFeedback) -> Iterator[str]:
    """Event ids of feedback: of pairs, and of labels as far as versions were trained on these.

    Of what was said of its own answers, only what calls one good: the rest says what was wrong with them.
    """
    own = given.of_answers_by(suspect.version)

    def questioned(praises: Mapping[str, bool], with_labels: bool) -> Iterator[str]:
        def seen_by(versions: Iterable[Read | None]) -> set[str]:
            return given.read_up_to(each.mark for each in versions if each and (each.labels or not with_labels))

        alone, accepted = seen_by([suspect.read]) - seen_by(suspect.before), seen_by(suspect.since)
        return (
            event
            for event, is_praise in praises.items()
            if (event in alone or (is_praise and event in own)) and event not in accepted
        )

    yield from questioned({pair.event_id: pair.source != CORRECTION for pair in trained_on.pairs}, with_labels=False)
    yield from questioned({each.event_id: each.good for each in trained_on.labelled}, with_labels=True)
