"""One chat request, from its start to its line in the serving log."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable

from dpo_pipeline.core.answers import Answer, Ask
from dpo_pipeline.core.outcomes import RequestOutcome
from dpo_pipeline.request_errors import (
    ClientGone,
    DeadlineExceeded,
    EngineEnded,
    EngineFailed,
    NotReady,
    QueueFull,
    RequestError,
)
from dpo_pipeline.serving.engines.engine import Engine
from dpo_pipeline.serving.services.request_log import Answering, RequestLog


class ChatCall:
    """Answered once, by `answer` or by `stream`, and logged.

    Args:
        answered: given the answer once it is whole.
        stopped: given what was written of an answer whose stream was closed before it was whole.
        patience_s: who goes away later than that without a first word was kept waiting by the version.
    """

    def __init__(
        self,
        engine: Engine,
        log: RequestLog,
        ask: Ask,
        answering: Answering,
        answered: Callable[[Answer], Awaitable[None]],
        stopped: Callable[[str], object],
        patience_s: float,
    ):
        self.request_id, self.version = answering.request_id, answering.version
        self._engine, self._log, self._ask, self._answering = engine, log, ask, answering
        self._on_answer, self._on_stop, self._patience_s = answered, stopped, patience_s
        self._started = time.perf_counter()
        self._first_s: float | None = None
        self._written: list[str] = []
        self._logged = False

    async def answer(self) -> Answer:
        try:
            [answer] = await self._engine.answers([self._ask])
        except asyncio.CancelledError:
            self._left()
            raise
        except Exception as error:
            self._record(outcome_of(error))
            raise
        await self._answered(answer)
        return answer

    async def stream(self) -> AsyncIterator[str | Answer]:
        """Pieces of text, and last the whole answer. Closing it frees the place in the batch."""
        try:
            async for event in self._engine.stream(self._ask):
                if isinstance(event, Answer):
                    await self._answered(event)
                else:
                    self._first_s = self._first_s or self._seconds
                    self._written.append(event)
                shown = time.perf_counter()
                yield event
                self._started += time.perf_counter() - shown  # how long somebody reads says nothing of the version
        except (asyncio.CancelledError, GeneratorExit):
            self._left()
            raise
        except Exception as error:
            self._record(outcome_of(error))
            raise

    @property
    def _seconds(self) -> float:
        return time.perf_counter() - self._started

    async def _answered(self, answer: Answer) -> None:
        self._record(RequestOutcome.OK, answer.tokens, answer.adapter)
        await self._on_answer(answer)

    def _left(self) -> None:
        """A person who goes away is no failure, unless a slow version made them wait for its first word."""
        if not self._logged:
            slow = self._first_s is None and self._seconds > self._patience_s
            self._record(RequestOutcome.TIMEOUT if slow else RequestOutcome.CANCELLED)
            if self._written:
                self._on_stop("".join(self._written))

    def _record(self, outcome: RequestOutcome, tokens: int = 0, adapter: str | None = None) -> None:
        self._logged = True
        self._log.record(self._answering, outcome, self._seconds, self._first_s, tokens, adapter)


def outcome_of(error: Exception) -> RequestOutcome:
    """Whose fault it is: what the client or a full queue did is no failure of the version."""
    match error:
        case DeadlineExceeded():
            return RequestOutcome.TIMEOUT
        case EngineEnded():
            return RequestOutcome.CRASH
        case EngineFailed():
            return RequestOutcome.ENGINE_ERROR
        case QueueFull() | NotReady():
            return RequestOutcome.OVERLOADED
        case ClientGone():
            return RequestOutcome.CANCELLED
        case RequestError():
            return RequestOutcome.CLIENT_ERROR
        case _:
            return RequestOutcome.CRASH
