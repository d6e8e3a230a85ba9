"""What serving keeps of a request and of what people say of its answer, and what of it counts."""

from typing import Literal, TypeGuard

import msgspec

from dpo_pipeline.core.feedback import Signal, stars_of
from dpo_pipeline.core.identity import Identity, is_proven
from dpo_pipeline.core.outcomes import RequestOutcome

RequestSource = Literal["ui", "api", "simulated"]


class RequestRecord(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="request"):
    """One request, however it ended; `ttft_ms` is null where nothing was streamed."""

    request_id: str
    recorded_at: str
    session_id: str
    user: str
    version: str
    adapter_sha: str
    stage: str
    shadow: bool
    latency_ms: float
    ttft_ms: float | None
    tokens: int
    outcome: RequestOutcome
    source: RequestSource = "api"
    conversation: str = ""
    identity: Identity | msgspec.UnsetType = msgspec.UNSET
    epoch: int | msgspec.UnsetType = msgspec.UNSET
    """Of the deployment as serving followed it; absent in records from before it was kept."""


class FeedbackRecord(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="feedback"):
    """What a person said of an answer, or did with it, as it was given: `core.feedback` says what it means.

    With what was asked and answered, so that it can be trained on. A conversation's prompt is the list of its messages.
    """

    event_id: str
    recorded_at: str
    request_id: str
    user: str
    version: str
    signal: Signal
    value: int | str = ""
    prompt: str | list[dict[str, str]] = ""
    answer: str = ""
    source: RequestSource = "api"
    identity: Identity | msgspec.UnsetType = msgspec.UNSET

    @property
    def stars(self) -> int | None:
        return stars_of(self.signal, self.value)


Record = RequestRecord | FeedbackRecord


def somebody_vouches(record: Record) -> bool:
    """For whoever asked or said this; in records from before identities were, for everybody."""
    return is_proven(record.identity)


def is_rating(record: Record) -> TypeGuard[FeedbackRecord]:
    """It says how satisfied somebody is: stars, or a thumb."""
    return isinstance(record, FeedbackRecord) and record.stars is not None


def is_evidence(request: RequestRecord) -> bool:
    """It says something about the version, and a person met it."""
    return request.outcome.counts and not request.shadow
