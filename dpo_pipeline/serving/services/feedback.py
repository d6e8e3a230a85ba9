"""What people say of an answer, and do with it, is kept beside what was asked and answered."""

import uuid
from collections.abc import Sequence
from typing import Any

import msgspec

from dpo_pipeline.core.feedback import ACTIONS, WORDS, read_feedback
from dpo_pipeline.core.redaction import Redactor
from dpo_pipeline.core.serving_records import FeedbackRecord
from dpo_pipeline.errors import TokenRefused, UnknownRequest
from dpo_pipeline.serving.access import RateLimits
from dpo_pipeline.serving.metrics import Metrics
from dpo_pipeline.serving.services.visitors import Visitor, Visitors
from dpo_pipeline.stores.ledger import utc_now
from dpo_pipeline.stores.serving_log import ServingLog
from dpo_pipeline.stores.serving_state import ServingState, StoredRequest


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

    def answered(self, request_ids: Sequence[str], visitor: Visitor) -> dict[str, StoredRequest]:
        """Of these requests, what this very person asked and was answered, as far as texts of it are kept.

        Raises:
            TooManyRequests, DatabaseUnavailable: not now.
        """
        self._rates.check("actions", visitor.person, visitor.address)
        known = self._state.requests(request_ids)
        return {name: each for name, each in known.items() if each.answer and each.user == visitor.person}

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
