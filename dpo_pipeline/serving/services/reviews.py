"""The validated preferences and corrections as pages show them, and people's orders about them since."""

import heapq
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from pathlib import Path
from typing import Any, Literal

from dpo_pipeline.core.admission import LONGEST_REASON, check_reason
from dpo_pipeline.core.pair_export import ExportForm, exported
from dpo_pipeline.core.redaction import Redactor
from dpo_pipeline.core.validated_pair import (
    CORRECTION,
    EXCLUDED,
    JUDGEMENT,
    SET_ASIDE,
    TAKEN_OUT,
    WITHDRAWN,
    PairFilter,
    ReviewAction,
    ValidatedPair,
)
from dpo_pipeline.request_errors import InvalidRequest, OrderChanged
from dpo_pipeline.serving.accounts import Accounts
from dpo_pipeline.stores.key_ring import Account
from dpo_pipeline.stores.ledger import utc_now
from dpo_pipeline.stores.reviews import Review, ReviewLog, read_validated_pairs

PAGE = 10
Order = Literal["exclude", "restore", "keep"]
"""What a person can say of a preference."""
LOOKS_RIGHT = "looks right"
"""The reason of whoever keeps a preference and gives none."""


@dataclass(frozen=True)
class ReviewedPair:
    """`in_effect`: curation knows the newest order about this pair. `reviewed`: a person has looked at it, and nothing
    put it in question since.
    """

    pair: ValidatedPair
    in_effect: bool
    reviewed: bool = False

    @property
    def place_in_queue(self) -> int:
        """What is set aside waits for a person; what was rejected may have been rejected wrongly."""
        if self.reviewed:
            return 3
        return 0 if SET_ASIDE in self.pair.failed else 2 if self.pair.valid else 1

    def fits(self, wanted: PairFilter) -> bool:
        return wanted.review in ("", "done" if self.reviewed else "open") and wanted.fits(self.pair)


@dataclass(frozen=True)
class ReviewPage:
    """Page `number`, counted from 0, of the pairs that fit; `versions` are those of all that were collected.

    `reviewed` of `reviewable` have been looked at: of those that fit whether they have been or not.
    """

    rows: tuple[ReviewedPair, ...]
    number: int
    fits: int
    reviewed: int
    reviewable: int
    collected: int
    versions: tuple[str, ...]

    @property
    def pages(self) -> int:
        return max(-(-self.fits // PAGE), 1)


class Reviews:
    """
    Args:
        tables: what curation published, each newest first.
        log: people's orders.
        redact: what reasons go through before they are kept.
    """

    def __init__(self, tables: Sequence[Path], log: ReviewLog, accounts: Accounts, redact: Redactor):
        self._tables, self._log, self._accounts, self._redact = tables, log, accounts, redact

    def guidelines(self) -> str:
        """What the team wrote for whoever reviews, as Markdown; empty where nobody did."""
        path = self._log.path.with_name("guidelines.md")
        return path.read_text(encoding="utf-8") if path.exists() else ""

    def collected(self) -> Iterator[ReviewedPair]:
        """Newest first, one at a time: a server that holds thousands of them grows with the votes.

        Raises:
            ArtifactCorrupt, InvalidRecord: a file is not what it should be, and what to do.
        """
        reviews = self._log.newest()
        return (_seen(pair, reviews.get(pair.event_id)) for pair in self._published())

    def order(
        self,
        event_id: str,
        action: Order,
        reason: str,
        account: Account | None,
        address: str,
    ) -> Review:
        """Take a preference out of what is trained on from now on, put it back, or keep it as it is; an event, never
        an edit.

        Raises:
            RoleRequired: it needs a reviewer.
            InvalidRequest: without a fitting reason, of an unknown preference, or of one that is in that state already.
        """
        detail = f"{event_id}: {reason}"
        reviewer = self._accounts.allowed(account, "reviewer", f"preference: {action}", address, detail)
        given = reason.strip() or (LOOKS_RIGHT if action == "keep" else "")
        reason = self._redact(check_reason(given))
        if all(pair.event_id != event_id for pair in self._published()):
            raise InvalidRequest(f"Nothing called {event_id!r} is among the newest in review. Reload the page.")
        newest = self._log.newest().get(event_id)
        _check_order(newest.action if newest else None, action)
        review = _review(event_id, action, reason, reviewer.name)
        self._log.append(review)
        return review

    def exported(self, wanted: PairFilter, form: ExportForm) -> Iterator[dict[str, Any]]:
        """The pairs that fit, as a trainer reads them, without those that nobody won; raises as `collected`."""
        fitting = (seen.pair for seen in self.collected() if seen.fits(wanted))
        return (row for pair in fitting if (row := exported(pair, form)) is not None)

    def changed_by(self, wanted: PairFilter, action: Order) -> list[str]:
        """Event ids of the pairs that fit and that the order would change: all there are, not one page."""
        fitting = (seen.pair for seen in self.collected() if seen.fits(wanted))
        return [
            pair.event_id
            for pair in fitting
            if WITHDRAWN not in pair.failed and (pair.taken_out if action == "restore" else EXCLUDED not in pair.failed)
        ]

    def order_all(
        self, action: Order, wanted: PairFilter, count: int, reason: str, account: Account | None, address: str
    ) -> int:
        """The same order for every pair that fits; returns how many.

        Args:
            count: of how many the person was told, and said yes.

        Raises:
            RoleRequired, InvalidRequest: as `order`.
            OrderChanged: it would be another number by now.
        """
        detail = f"{count} pairs that fit {wanted}: {reason}"
        reviewer = self._accounts.allowed(account, "reviewer", f"preferences: {action}", address, detail)
        reason, events = self._redact(check_reason(reason)), self.changed_by(wanted, action)
        if len(events) != count:
            raise OrderChanged(f"It would be {len(events)} pairs by now, not {count}. Look again before you confirm.")
        self._log.append_all(_review(event_id, action, reason, reviewer.name) for event_id in events)
        return count

    def _published(self) -> Iterator[ValidatedPair]:
        tables = map(read_validated_pairs, self._tables)
        return heapq.merge(*tables, key=attrgetter("recorded_at"), reverse=True)


def _review(event_id: str, action: Order, reason: str, actor: str) -> Review:
    return Review(
        review_id=f"rev-{uuid.uuid4().hex}",
        recorded_at=utc_now(),
        event_id=event_id,
        action=action,
        reason=reason[:LONGEST_REASON],
        actor=actor,
    )


def _check_order(newest: ReviewAction | None, action: Order) -> None:
    if newest == "withdraw":
        raise InvalidRequest("Whoever gave this vote took it back as a slip. It stays out, whatever is said of it.")
    taken_out = newest in TAKEN_OUT
    if action == "keep" and taken_out:
        raise InvalidRequest("This preference is not trained on. Restore it, or leave it excluded.")
    if action == newest or (action == "restore" and not taken_out):
        found = newest or "none"
        raise InvalidRequest(f"Nothing to do: the newest order about this preference is {found!r} already.")


def find(pairs: Iterable[ReviewedPair], event_id: str | None) -> ReviewedPair | None:
    return next((seen for seen in pairs if seen.pair.event_id == event_id), None)


def page_of(collected: Callable[[], Iterable[ReviewedPair]], wanted: PairFilter, number: int) -> ReviewPage:
    """One page of what fits, as a queue: what no person has looked at first, and of each kind the newest first.

    A number beyond the first or last page is that of the nearest.

    Args:
        collected: newest first; gone through twice, so that only the page is held.
    """
    queue: list[tuple[int, int, str]] = []
    versions: set[str] = set()
    count, reviewed, reviewable = 0, 0, 0
    any_review = replace(wanted, review="")
    for seen in collected():
        count += 1
        versions |= {seen.pair.model_a, seen.pair.model_b} - {CORRECTION, JUDGEMENT}
        if seen.fits(any_review):
            reviewable += 1
            reviewed += seen.reviewed
        if seen.fits(wanted):
            queue.append((seen.place_in_queue, count, seen.pair.event_id))
    number = min(max(number, 0), max(len(queue) - 1, 0) // PAGE)
    chosen = [event_id for *_, event_id in sorted(queue)[number * PAGE : (number + 1) * PAGE]]
    rows = {seen.pair.event_id: seen for seen in collected() if seen.pair.event_id in chosen} if chosen else {}
    found = tuple(rows[event_id] for event_id in chosen if event_id in rows)
    return ReviewPage(found, number, len(queue), reviewed, reviewable, count, tuple(sorted(versions)))


def _seen(pair: ValidatedPair, review: Review | None) -> ReviewedPair:
    now = pair.reviewed(review.action, review.reason) if review else pair.reviewed("restore", "")
    by_person = review is not None and review.action != "set_aside"
    return ReviewedPair(now, in_effect=now.taken_out == pair.taken_out, reviewed=by_person)
