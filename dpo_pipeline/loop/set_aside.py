"""After a rollback for harm: the pairs that it puts in question are set aside, each once; people may restore them."""

from dpo_pipeline.core.admission import LONGEST_REASON
from dpo_pipeline.core.curation import CurationSummary
from dpo_pipeline.core.lifecycle import Status
from dpo_pipeline.core.rollout import HARM
from dpo_pipeline.core.set_aside import Suspect, suspects
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
    """Note in the reviews what is not set aside yet: what a person restored stays restored. Returns how many pairs."""
    if not found:
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
        for suspect in found
        for event_id in warehouse.valid_events_of(suspect.version, suspect.after, suspect.up_to, suspect.accepted)
        if (review_id := f"{suspect.version}-{ACTOR}-{event_id}") not in known
    ]
    log.append_all(reviews)
    return len(reviews)
