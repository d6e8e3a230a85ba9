"""Chat: which version answers whom, and the copies that a new one answers unseen."""

import asyncio
import random
import uuid
from contextlib import suppress
from dataclasses import replace

from dpo_pipeline.core.admission import check_messages
from dpo_pipeline.core.answers import Answer, Ask, Messages
from dpo_pipeline.core.exposure import conversation_key
from dpo_pipeline.core.identity import is_proven
from dpo_pipeline.core.rollout import STAGES
from dpo_pipeline.core.versions import served_name
from dpo_pipeline.core.votes import Sampling
from dpo_pipeline.request_errors import RequestError
from dpo_pipeline.serving.access import RateLimits
from dpo_pipeline.serving.engines.engine import Engine
from dpo_pipeline.serving.router import Route, Router
from dpo_pipeline.serving.services.chat_call import ChatCall
from dpo_pipeline.serving.services.keeping import keeping, later
from dpo_pipeline.serving.services.readiness import Readiness
from dpo_pipeline.serving.services.request_log import Answering, RequestLog
from dpo_pipeline.serving.services.sampling import Defaults
from dpo_pipeline.serving.services.visitors import Visitor, Visitors

FOLLOW_ROLLOUT = "chat"


class Chats:
    """
    Args:
        patience_s: see `ChatCall`.
        copy_all: in staging, answers to people whom nobody vouches for are copied too.
    """

    def __init__(
        self,
        engine: Engine,
        router: Router,
        readiness: Readiness,
        log: RequestLog,
        rates: RateLimits,
        defaults: Defaults,
        visitors: Visitors,
        patience_s: float,
        copy_all: bool,
    ):
        self._engine, self._router, self._readiness, self._log = engine, router, readiness, log
        self._rates, self._defaults, self._patience_s = rates, defaults, patience_s
        self._visitors, self._copy_all = visitors, copy_all
        self._copies: set[asyncio.Task[None]] = set()

    def begin(
        self, model: str, messages: Messages, sampling: Sampling, visitor: Visitor, again: bool = False
    ) -> ChatCall:
        """A request about to be answered, whole or streamed.

        Args:
            model: `chat` follows the rollout, anything else names a version.
            again: somebody wants another answer to what was answered already.

        Raises:
            InvalidRequest, TooManyRequests, NotReady, UnknownModel: it is not answered.
        """
        check_messages(messages)
        self._rates.check("answers", visitor.person, visitor.address)
        self._visitors.note(visitor)
        # In OpenAI's form. A rollout by request assigns by it, so it is drawn before the version is known.
        request_id = _new_request_id()
        conversation = conversation_key(visitor.person, visitor.session_id, messages[0][1] if messages else "")
        route = self._router.route
        version = self._version_for(route, model, visitor.person, conversation, request_id)
        ask = Ask(version, messages, self._defaults.chat(sampling, again))
        # What nobody serves gets no line and no counter of its own: names are the client's to invent.
        self._engine.check_served([ask])
        answering = Answering(request_id, version, visitor, conversation, route)

        async def answered(answer: Answer) -> None:
            self._copy(ask, visitor, answer.text)
            await self._log.kept(answering, messages, answer.text)

        def stopped(written: str) -> None:
            later(self._log.keep, answering, messages, written, whole=False)

        return ChatCall(self._engine, self._log, ask, answering, answered, stopped, self._patience_s)

    def _version_for(self, route: Route, model: str, person: str, conversation: str, request_id: str) -> str:
        version = route.version_for(person, conversation, request_id) if model == FOLLOW_ROLLOUT else served_name(model)
        if version is None:
            raise self._readiness.not_ready()
        return version

    def _copy(self, ask: Ask, visitor: Visitor, answer: str) -> None:
        """In staging, let the challenger answer a share of what the champion did. Whoever asked never sees it; others
        may be asked which of the two is better.
        """
        route = self._router.route
        if not (self._copy_all or is_proven(visitor.identity)):
            return  # what strangers meet is no evidence, so a copy of it would be none
        if route.stage != STAGES[0] or not route.challenger or ask.model_id != route.champion:
            return
        if random.random() < route.shadow_share:
            copied = replace(ask, model_id=route.challenger)
            answering = Answering(_new_request_id(), route.challenger, visitor, "", route, shadow=True)

            async def copied_too(copy: Answer) -> None:
                await keeping(self._log.keep_copy, answering, ask, (answer, copy.text))

            call = ChatCall(self._engine, self._log, copied, answering, copied_too, _unkept, self._patience_s)
            task = asyncio.create_task(_unseen(call))
            self._copies.add(task)
            task.add_done_callback(self._copies.discard)


def _new_request_id() -> str:
    return f"chatcmpl-{uuid.uuid4().hex}"


def _unkept(written: str) -> None:
    """Of a copy that did not come to its end nobody can say anything."""


async def _unseen(call: ChatCall) -> None:
    """What a shadow copy met stands in the serving log; nobody waits for it."""
    with suppress(RequestError):
        await call.answer()
