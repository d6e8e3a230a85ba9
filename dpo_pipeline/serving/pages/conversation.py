"""One conversation on the chat page: what was said, and which answer can be rated. Layout is `chat`'s."""

import time
import uuid
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import cast

from dpo_pipeline.core.answers import Answer, Messages
from dpo_pipeline.core.votes import Sampling
from dpo_pipeline.serving.services.chats import FOLLOW_ROLLOUT, Chats
from dpo_pipeline.serving.services.visitors import Visitor

SHOW_EVERY_S = 0.04
"""Pieces that come faster are shown together: an update of the page costs more than a token."""


@dataclass(frozen=True)
class Turn:
    """What one side said; `version` wrote it, null for a person."""

    text: str
    version: str | None = None
    whole: bool = True


@dataclass
class Conversation:
    """Kept on the server, so that nobody can rate or correct what was not answered to them."""

    session_id: str = ""
    said: list[Turn] = field(default_factory=list)
    growing: str | None = None
    request_id: str | None = None
    version: str | None = None
    judged: set[str] = field(default_factory=set)
    """Signals that were given on the last answer: each is given once."""

    _before: tuple[list[Turn], str | None, str | None, set[str]] | None = None

    @property
    def messages(self) -> Messages:
        return tuple(("user" if turn.version is None else "assistant", turn.text) for turn in self.said)

    @property
    def last_answer(self) -> str:
        return self.said[-1].text if self.said and self.said[-1].version else ""

    def named(self) -> str:
        """The id of the visit, given at its first question: Gradio copies one fresh talk for every page load."""
        self.session_id = self.session_id or f"visit-{uuid.uuid4().hex[:12]}"
        return self.session_id

    def end_turn(self) -> None:
        """Keep what was answered so far; a question that got no answer at all is removed again."""
        if self.growing:
            self.said.append(Turn(self.growing, self.version or "the model", whole=self.request_id is not None))
        elif self.said and self.said[-1].version is None:
            self.said.pop()
            if self._before:
                turns, self.request_id, self.version, self.judged = self._before
                self.said = [*self.said, *turns]
        self.growing = self._before = None

    @property
    def last_question(self) -> str:
        return self.said[-2].text if self.last_answer else ""

    async def ask(self, chats: Chats, question: str, visitor: Visitor, instead: bool = False) -> AsyncGenerator[None]:
        """Say it and let the answer grow; each step is something new to show. Closing it frees the place.

        Args:
            instead: replace the last question and its answer; they are restored if no new answer comes.

        Raises:
            RequestError: there is no answer, and why; the question is removed again.
        """
        if instead:
            self._before = self.said[-2:], self.request_id, self.version, self.judged
            self.said = self.said[:-2]
        self.request_id, self.version, self.judged = None, None, set()
        self.said.append(Turn(question))
        self.growing = ""
        yield
        try:
            call = chats.begin(FOLLOW_ROLLOUT, self.messages, Sampling(), visitor)
            self.version = call.version
            shown = time.monotonic()
            async with aclosing(cast(AsyncGenerator[str | Answer], call.stream())) as events:
                async for event in events:
                    if isinstance(event, Answer):
                        self.growing, self.request_id = event.text, call.request_id
                    else:
                        self.growing += event
                        if time.monotonic() - shown >= SHOW_EVERY_S:
                            shown = time.monotonic()
                            yield
        finally:
            self.end_turn()
        yield
