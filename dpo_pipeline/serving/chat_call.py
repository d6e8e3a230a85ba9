"""One chat request, from its start to its line in the serving log."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from dpo_pipeline.core.answers import Answer, Ask, Messages
from dpo_pipeline.core.redaction import redact
from dpo_pipeline.errors import DeadlineExceeded, EngineEnded, EngineFailed, RequestError
from dpo_pipeline.stores.ledger import utc_now
from dpo_pipeline.stores.serving_log import Outcome, RequestRecord
from dpo_pipeline.stores.serving_state import StoredRequest

if TYPE_CHECKING:
    from dpo_pipeline.serving.service import Service


@dataclass(frozen=True)
class Visitor:
    """Who asks: a pseudonym, the visit it belongs to, the way in, and the address it came from."""

    person: str
    session_id: str
    source: Literal["ui", "api", "simulated"]
    address: str


class ChatCall:
    """Answered once, by `answer` or by `stream`, and logged. A shadow copy is nobody's to see or to rate."""

    def __init__(
        self,
        service: "Service",
        ask: Ask,
        visitor: Visitor,
        request_id: str,
        conversation: str = "",
        shadow: bool = False,
    ):
        self.request_id, self.version = request_id, ask.model_id
        self._conversation = conversation
        self._service, self._ask, self._visitor = service, ask, visitor
        self._started = time.perf_counter()
        self._first_s: float | None = None
        self._logged = False
        self._shadow = shadow

    async def answer(self) -> Answer:
        try:
            [answer] = await self._service.engine.answers([self._ask])
        except asyncio.CancelledError:
            self._left()
            raise
        except Exception as error:
            self._failed(error)
            raise
        self._answered(answer)
        return answer

    async def stream(self) -> AsyncIterator[str | Answer]:
        """Pieces of text, and last the whole answer. Closing it frees the place in the batch."""
        try:
            async for event in self._service.engine.stream(self._ask):
                if isinstance(event, Answer):
                    self._answered(event)
                elif self._first_s is None:
                    self._first_s = time.perf_counter() - self._started
                yield event
        except (asyncio.CancelledError, GeneratorExit):
            self._left()
            raise
        except Exception as error:
            self._failed(error)
            raise

    def _answered(self, answer: Answer) -> None:
        self._record("ok", answer.tokens, answer.adapter)
        if self._shadow:
            return
        self._service.shadow(self._ask, self._visitor)
        stored = StoredRequest(
            request_id=self.request_id,
            user=self._visitor.person,
            version=self.version,
            prompt=_redacted(self._ask.messages),
            source=self._visitor.source,
        )
        self._service.state.add_request(stored, time.time())

    def _failed(self, error: Exception) -> None:
        """What the client or a full queue did is no failure of the version."""
        if isinstance(error, DeadlineExceeded):
            self._record("timeout", 0, None)
        elif isinstance(error, EngineEnded) or not isinstance(error, RequestError):
            self._record("crash", 0, None)
        elif isinstance(error, EngineFailed):
            self._record("error", 0, None)

    def _left(self) -> None:
        """A person who goes away is no failure, unless a slow version made them wait for its first word."""
        waited_ms = (time.perf_counter() - self._started) * 1000
        if not self._logged and self._first_s is None and waited_ms > self._service.settings.rollout.max_p99_ms:
            self._record("timeout", 0, None)

    def _record(self, outcome: Outcome, tokens: int, adapter: str | None) -> None:
        service, version, seconds = self._service, self.version, time.perf_counter() - self._started
        stage, self._logged = service.router.route.stage or "full", True
        service.log.append_request(
            RequestRecord(
                request_id=self.request_id,
                recorded_at=utc_now(),
                session_id=self._visitor.session_id,
                user=self._visitor.person,
                version=version,
                adapter_sha=adapter or service.engine.models.get(version, ""),
                stage=stage,
                shadow=self._shadow,
                latency_ms=round(seconds * 1000, 2),
                ttft_ms=None if self._first_s is None else round(self._first_s * 1000, 2),
                tokens=tokens,
                outcome=outcome,
                source=self._visitor.source,
                conversation=self._conversation,
            )
        )
        if self._shadow:
            return
        metrics = service.metrics
        metrics.answers.labels(version, stage, outcome).inc()
        metrics.answer_seconds.labels(version).observe(seconds)
        metrics.tokens.labels(version).inc(tokens)
        if self._first_s is not None:
            metrics.first_token_seconds.labels(version).observe(self._first_s)


def new_request_id() -> str:
    """In OpenAI's form. A rollout by request assigns by it, so it is drawn before the version is known."""
    return f"chatcmpl-{uuid.uuid4().hex}"


def _redacted(messages: Messages) -> str | list[dict[str, str]]:
    """A single question as a text, a conversation as its messages."""
    if len(messages) == 1 and messages[0][0] == "user":
        return redact(messages[0][1])
    return [{"role": role, "content": redact(content)} for role, content in messages]
