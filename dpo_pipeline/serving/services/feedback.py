"""What people say of an answer, and do with it, is kept beside what was asked and answered."""

import asyncio
import uuid
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import msgspec

from dpo_pipeline.core.feedback import ACTIONS, SAID_OF_PARTS, WORDS, read_feedback
from dpo_pipeline.core.redaction import Redactor
from dpo_pipeline.core.serving_records import FeedbackRecord
from dpo_pipeline.errors import DpoError
from dpo_pipeline.request_errors import InvalidRequest, TokenRefused, UnknownRequest
from dpo_pipeline.serving.access import RateLimits
from dpo_pipeline.serving.metrics import Metrics
from dpo_pipeline.serving.services.keeping import asking
from dpo_pipeline.serving.services.visitors import Visitor, Visitors
from dpo_pipeline.stores.ledger import utc_now
from dpo_pipeline.stores.serving_log import ServingLog
from dpo_pipeline.stores.serving_state import ServingState, StoredRequest

LOOK_AGAIN_S = (0.05, 0.1, 0.2, 0.4, 0.8)
"""After so many seconds each: whoever closes a stream says so at once, and what was written is kept a moment later."""


class Feedback:
    def __init__(
        self,
        state: ServingState,
        log: ServingLog,
        visitors: Visitors,
        rates: RateLimits,
        metrics: Metrics,
        redact: Redactor,
    ):
        self._state, self._log, self._visitors = state, log, visitors
        self._rates, self._metrics, self._redact = rates, metrics, redact
        self._stops: set[asyncio.Task[None]] = set()

    def answered(self, request_ids: Sequence[str], visitor: Visitor) -> dict[str, StoredRequest]:
        """Of these requests, what this very person asked and was answered, as far as texts of it are kept.

        Raises:
            TooManyRequests, DatabaseUnavailable: not now.
        """
        self._rates.check("actions", visitor.person, visitor.address)
        known = self._state.requests(request_ids)
        return {name: each for name, each in known.items() if _can_be_shown(each) and each.user == visitor.person}

    def give(self, request_id: str, visitor: Visitor, **given: Any) -> str:
        """Keep one signal, named as `core.feedback.read_feedback` has it; returns the event id.

        Raises:
            InvalidRequest, UnknownRequest, TokenRefused, TooManyRequests: nothing was kept.
        """
        signal, value = read_feedback(**given)
        known = self._state.request(request_id)
        if known is None:
            raise UnknownRequest(f"There is no request {request_id!r} to give feedback on.")
        if not visitor.speaks_for(known.user, str(known.identity)):
            raise TokenRefused("This answer was given to somebody with a key. Send the same key with the feedback.")
        if not known.whole and signal not in SAID_OF_PARTS:
            raise InvalidRequest(
                "This answer was stopped before it was whole, and only a whole one is judged or corrected. Ask again."
            )
        if signal == "correction" and not known.prompt:
            raise InvalidRequest(
                "Questions and answers are not kept here (collection.retain_texts_days is 0), so nothing could be "
                "learned from a correction. Send a rating or a thumb."
            )
        self._rates.check("actions" if signal in ACTIONS else "votes", known.user, visitor.address)
        identity = known.identity
        if identity is not msgspec.UNSET:
            asker = Visitor(known.user, "", known.source, visitor.address, identity)
            identity = self._visitors.settled(asker).identity
        record = FeedbackRecord(
            event_id=f"evt-{uuid.uuid4().hex}",
            recorded_at=utc_now(),
            request_id=known.request_id,
            user=known.user,
            version=known.version,
            signal=signal,
            value=self._redact(str(value)) if signal in WORDS else value,
            prompt=known.prompt,
            answer=known.answer,
            source=known.source,
            identity=identity,
        )
        self._log.append(record)
        if record.stars is not None:
            self._metrics.ratings.labels(known.version).observe(record.stars)
        return record.event_id

    async def stopped(self, request_id: str, visitor: Visitor) -> str:
        """Keep that somebody stopped this answer, also where its stream was closed a moment ago; as `give` else."""
        for pause_s in LOOK_AGAIN_S:
            try:
                return await asking(self.give, request_id, visitor, action="stop")
            except UnknownRequest:
                await asyncio.sleep(pause_s)
        return await asking(self.give, request_id, visitor, action="stop")

    def stopping(self, request_id: str, visitor: Visitor) -> None:
        """The same, some time. Nobody was asked, so what cannot be kept of it is nothing to trouble anybody with."""

        async def told() -> None:
            with suppress(DpoError):
                await self.stopped(request_id, visitor)

        task = asyncio.create_task(told())
        self._stops.add(task)
        task.add_done_callback(self._stops.discard)


def _can_be_shown(request: StoredRequest) -> bool:
    return request.whole and bool(request.answer)
