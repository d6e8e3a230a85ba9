"""The validated preferences and corrections as pages show them, and people's orders about them since."""

import heapq
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any, Literal

from dpo_pipeline.core.admission import LONGEST_REASON, check_reason
from dpo_pipeline.core.pair_export import ExportForm, exported
from dpo_pipeline.core.redaction import Redactor
from dpo_pipeline.core.validated_pair import CORRECTION, EXCLUDED, JUDGEMENT, PairFilter, ValidatedPair
from dpo_pipeline.errors import InvalidRequest, OrderChanged
from dpo_pipeline.serving.accounts import Accounts
from dpo_pipeline.stores.key_ring import Account
from dpo_pipeline.stores.ledger import utc_now
from dpo_pipeline.stores.reviews import Review, ReviewLog, read_validated_pairs

PAGE = 10
Order = Literal["exclude", "restore"]
"""What a person can say of a preference."""


@dataclass(frozen=True)
class ReviewedPair:
    """`in_effect`: curation knows the newest order about this pair."""

    pair: ValidatedPair
    in_effect: bool


@dataclass(frozen=True)
class ReviewPage:
    """Page `number`, counted from 0, of the pairs that fit; `versions` are those of all that were collected."""

    rows: tuple[ReviewedPair, ...]
    number: int
    fits: int
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
        """Take a preference out of what is trained on from now on, or put it back; an event, never an edit.

        Raises:
            RoleRequired: it needs a reviewer.
            InvalidRequest: without a fitting reason, of an unknown preference, or of one that is in that state already.
        """
        detail = f"{event_id}: {reason}"
        reviewer = self._accounts.allowed(account, "reviewer", f"preference: {action}", address, detail)
        reason = self._redact(check_reason(reason))
        if all(pair.event_id != event_id for pair in self._published()):
            raise InvalidRequest(f"Nothing called {event_id!r} is among the newest in review. Reload the page.")
        newest = self._log.newest().get(event_id)
        if (newest.action if newest else "restore") == action:
            raise InvalidRequest(f"Nothing to do: the newest order about this preference is {action!r} already.")
        review = _review(event_id, action, reason, reviewer.name)
        self._log.append(review)
        return review

    def exported(self, wanted: PairFilter, form: ExportForm) -> Iterator[dict[str, Any]]:
        """The pairs that fit, as a trainer reads them, without those that nobody won; raises as `collected`."""
        fitting = (seen.pair for seen in self.collected() if wanted.fits(seen.pair))
        return (row for pair in fitting if (row := exported(pair, form)) is not None)

    def changed_by(self, wanted: PairFilter, action: Order) -> list[str]:
        """Event ids of the pairs that fit and that the order would change: all there are, not one page."""
        fitting = (seen.pair for seen in self.collected() if wanted.fits(seen.pair))
        return [
            pair.event_id
            for pair in fitting
            if (pair.taken_out if action == "restore" else EXCLUDED not in pair.failed)
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


def find(pairs: Iterable[ReviewedPair], event_id: str | None) -> ReviewedPair | None:
    return next((seen for seen in pairs if seen.pair.event_id == event_id), None)


def page_of(pairs: Iterable[ReviewedPair], wanted: PairFilter, number: int) -> ReviewPage:
    """One page of what fits, in the same order; a number beyond the first or last page is that of the nearest."""
    number, fits, count = max(number, 0), 0, 0
    rows: list[ReviewedPair] = []
    versions: set[str] = set()
    for seen in pairs:
        count += 1
        versions |= {seen.pair.model_a, seen.pair.model_b} - {CORRECTION, JUDGEMENT}
        if not wanted.fits(seen.pair):
            continue
        if fits // PAGE <= number:
            rows = [*rows, seen] if fits % PAGE else [seen]
        fits += 1
    return ReviewPage(tuple(rows), min(number, max(fits - 1, 0) // PAGE), fits, count, tuple(sorted(versions)))


def _seen(pair: ValidatedPair, review: Review | None) -> ReviewedPair:
    now = pair.reviewed(review.action, review.reason) if review else pair.reviewed("restore", "")
    return ReviewedPair(now, in_effect=now.taken_out == pair.taken_out)
