"""What is kept of a chat request: a line in the serving log, what was asked and answered, and counters."""

import logging
import time
from dataclasses import dataclass
from typing import Any

import msgspec

from dpo_pipeline.core.answers import Ask, Messages
from dpo_pipeline.core.outcomes import RequestOutcome
from dpo_pipeline.core.questions import may_be_asked_again
from dpo_pipeline.core.redaction import Redactor, redact, redacted_turns
from dpo_pipeline.core.serving_records import RequestRecord
from dpo_pipeline.errors import LogWriteError, RedactionFailed
from dpo_pipeline.serving.engines.engine import Engine
from dpo_pipeline.serving.metrics import Metrics
from dpo_pipeline.serving.router import Route
from dpo_pipeline.serving.services.keeping import keeping
from dpo_pipeline.serving.services.visitors import Visitor
from dpo_pipeline.stores.ledger import utc_now
from dpo_pipeline.stores.served_texts import ServedText, ServedTexts
from dpo_pipeline.stores.serving_log import ServingLog
from dpo_pipeline.stores.serving_state import ServingState, StoredComparison, StoredRequest

log = logging.getLogger(__name__)
SHORT = 2_000
"""Characters: our own patterns go through so many within 0.3 ms. A redactor of the user's own may take seconds."""


@dataclass(frozen=True)
class Answering:
    """A request that a version is answering, by the route of that moment. A shadow copy is nobody's to see or rate."""

    request_id: str
    version: str
    visitor: Visitor
    conversation: str
    route: Route
    shadow: bool = False


class RequestLog:
    def __init__(
        self,
        log: ServingLog,
        texts: ServedTexts,
        state: ServingState,
        metrics: Metrics,
        engine: Engine,
        redact: Redactor,
    ):
        self._log, self._texts, self._state, self._metrics = log, texts, state, metrics
        self._engine, self._redact = engine, redact

    def record(
        self,
        answering: Answering,
        outcome: RequestOutcome,
        seconds: float,
        first_s: float | None,
        tokens: int = 0,
        adapter: str | None = None,
    ) -> None:
        """
        Args:
            first_s: until the first streamed piece; null: not streamed, or none came.
            adapter: the sha256 of what answered; null: that of the version as it is served now.
        """
        version, visitor, stage = answering.version, answering.visitor, answering.route.stage or "full"
        self._log.append_request(
            RequestRecord(
                request_id=answering.request_id,
                recorded_at=utc_now(),
                session_id=visitor.session_id,
                user=visitor.person,
                version=version,
                adapter_sha=adapter or self._engine.models.get(version, ""),
                stage=stage,
                shadow=answering.shadow,
                latency_ms=round(seconds * 1000, 2),
                ttft_ms=None if first_s is None else round(first_s * 1000, 2),
                tokens=tokens,
                outcome=outcome,
                source=visitor.source,
                conversation=answering.conversation,
                identity=visitor.identity,
                epoch=answering.route.epoch,
            )
        )
        if answering.shadow:
            return
        metrics = self._metrics
        metrics.answers.labels(version, stage, outcome).inc()
        if outcome.counts:
            metrics.answer_seconds.labels(version).observe(seconds)
        metrics.tokens.labels(version).inc(tokens)
        if first_s is not None:
            metrics.first_token_seconds.labels(version).observe(first_s)

    async def kept(self, answering: Answering, messages: Messages, answer: str) -> None:
        """As `keep`: beside the server's loop, unless handing it to a thread would take ten times as long."""
        if self._redact is redact and len(answer) + sum(len(text) for _, text in messages) <= SHORT:
            self.keep(answering, messages, answer)
        else:
            await keeping(self.keep, answering, messages, answer)

    def keep(self, answering: Answering, messages: Messages, answer: str, whole: bool = True) -> None:
        """So that people can say something of the answer later; not where what was said cannot be stored.

        Args:
            whole: false where it was stopped.
        """
        visitor, texts = answering.visitor, self._texts.keeps
        try:
            prompt = redacted_turns(_told(messages), self._redact) if texts else ""
            said = self._redact(answer) if texts else ""
        except RedactionFailed as error:  # the answer is there, and no version's fault
            log.warning("feedback on request %s cannot be kept: %s", answering.request_id, error)
            return
        told: dict[str, Any] = {"request_id": answering.request_id, "user": visitor.person, "prompt": prompt}
        told |= {"version": answering.version, "answer": said, "source": visitor.source, "identity": visitor.identity}
        told["whole"] = whole
        self._state.add_request(StoredRequest(**told), time.time())
        if texts:
            self._texts.append(ServedText(**told, recorded_at=utc_now()))

    def keep_copy(self, answering: Answering, ask: Ask, answers: tuple[str, str]) -> None:
        """A shadow copy beside what was answered: others may be asked which is better.

        Only of single questions, as those that are drawn from production: a conversation, or what a product tells its
        model, is for nobody else to read.

        Args:
            answering: of the copy.
            ask: what the champion was asked.
            answers: the champion's, and the copy.
        """
        visitor, told = answering.visitor, _told(ask.messages)
        if not self._texts.keeps or not may_be_asked_again(told, visitor.source):
            return
        if answers[0].strip() == answers[1].strip():
            return  # there is nothing to choose between
        try:
            ballot = StoredComparison(
                comparison_id=f"shadow-{answering.request_id}",
                event_id="",
                session_id="",
                prompt=redacted_turns(told, self._redact),
                category="other",
                model_a=ask.model_id,
                model_b=answering.version,
                response_a=self._redact(answers[0]),
                response_b=self._redact(answers[1]),
                left="a",
                annotator=visitor.person,
                source=visitor.source,
                **msgspec.structs.asdict(ask.sampling),
                propensity=1.0,
                asked_by=visitor.person,
            )
            self._state.add_ballot(ballot, time.time())
        except (RedactionFailed, LogWriteError) as error:  # the person has their answer; a copy less is compared
            log.warning("the copy %s cannot be kept: %s", answering.request_id, error)


def _told(messages: Messages) -> str | list[dict[str, str]]:
    """A single question as a text, a conversation as its messages."""
    if len(messages) == 1 and messages[0][0] == "user":
        return messages[0][1]
    return [{"role": role, "content": content} for role, content in messages]
