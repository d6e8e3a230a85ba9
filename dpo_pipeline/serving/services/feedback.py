"""What people say of an answer: a rating, a thumb, or what it should have been."""

import uuid
from typing import Any

import msgspec

from dpo_pipeline.core.admission import check_text
from dpo_pipeline.core.redaction import Redactor
from dpo_pipeline.errors import InvalidRequest, TokenRefused, UnknownRequest
from dpo_pipeline.serving.access import RateLimits
from dpo_pipeline.serving.metrics import Metrics
from dpo_pipeline.serving.services.visitors import Visitor, Visitors
from dpo_pipeline.stores.ledger import utc_now
from dpo_pipeline.stores.serving_log import CorrectionRecord, RatingRecord, ServingLog
from dpo_pipeline.stores.serving_state import ServingState


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

    def give(
        self,
        request_id: str,
        visitor: Visitor,
        *,
        rating: int | None = None,
        thumb: str | None = None,
        correction: str | None = None,
    ) -> str:
        """Keep exactly one of rating (1 to 5), thumb (`up`, `down`) or correction; returns the event id.

        Raises:
            InvalidRequest, UnknownRequest, TokenRefused, TooManyRequests: nothing was kept.
        """
        given = [value for value in (rating, thumb, correction) if value is not None]
        if len(given) != 1:
            raise InvalidRequest(f"Send exactly one of rating, thumb or correction; {len(given)} were found.")
        if correction is not None:
            if not correction.strip():
                raise InvalidRequest("The correction is blank. Write what the answer should have been.")
            check_text("The correction", correction)
        known = self._state.request(request_id)
        if known is None:
            raise UnknownRequest(f"There is no request {request_id!r} to give feedback on.")
        if not visitor.speaks_for(known.user, str(known.identity)):
            raise TokenRefused("This answer was given to somebody with a key. Send the same key with the feedback.")
        self._rates.check("votes", known.user, visitor.address)
        identity = known.identity
        if identity is not msgspec.UNSET:
            asker = Visitor(known.user, "", known.source, visitor.address, identity)
            identity = self._visitors.settled(asker).identity
        event_id = f"evt-{uuid.uuid4().hex}"
        common: dict[str, Any] = {"event_id": event_id, "recorded_at": utc_now(), "request_id": known.request_id}
        common |= {"user": known.user, "version": known.version}
        if correction is not None:
            self._log.append(
                CorrectionRecord(**common, prompt=known.prompt, correction=self._redact(correction), identity=identity)
            )
        else:
            stars = rating or (5 if thumb == "up" else 1)
            self._log.append(RatingRecord(**common, rating=stars, source=known.source, identity=identity))
            self._metrics.ratings.labels(known.version).observe(stars)
        return event_id
