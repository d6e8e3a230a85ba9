"""One conversation on the chat page: what was said, and which answers can be spoken of. Layout is `chat`'s."""

import time
import uuid
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import cast

from dpo_pipeline.core.answers import Answer, Messages
from dpo_pipeline.core.votes import Sampling
from dpo_pipeline.serving.services.chats import FOLLOW_ROLLOUT, Chats
from dpo_pipeline.serving.services.visitors import Visitor

SHOW_EVERY_S = 0.04
"""Pieces that come faster are shown together: an update of the page costs more than a token."""


@dataclass
class Turn:
    """What one side said; `version` wrote it, null for a person.

    A whole answer has the id of its request, by which it is spoken of; `judged` are the signals that were given on it,
    each once, with their values.
    """

    text: str
    version: str | None = None
    request_id: str | None = None
    judged: dict[str, str | int] = field(default_factory=dict)


@dataclass
class Conversation:
    """Kept on the server, so that nobody can rate or correct what was not answered to them."""

    session_id: str = ""
    said: list[Turn] = field(default_factory=list)
    asks: int = 0
    """How often an answer was asked for."""
    growing: str | None = None
    version: str | None = None
    """Who writes the answer that grows, or wrote the last one."""
    editing: int | None = None
    """The place of the question that the next one is asked in the place of."""
    judging: int | None = None
    """The place of the answer that is rated and corrected; null: the last one."""
    unsent: str = ""
    """A question whose answer had not begun when the page was loaded again."""

    _call_id: str = ""
    _request_id: str | None = None
    _before: list[Turn] = field(default_factory=list)
    _edited: int | None = None

    @property
    def messages(self) -> Messages:
        return tuple(("user" if turn.version is None else "assistant", turn.text) for turn in self.said)

    @property
    def last(self) -> Turn | None:
        """The last answer, where it is whole."""
        return self.said[-1] if self.said and self.said[-1].request_id else None

    @property
    def to_judge(self) -> Turn | None:
        """The answer that is rated and corrected, where it is whole."""
        return None if self.place_to_judge is None else self.said[self.place_to_judge]

    @property
    def place_to_judge(self) -> int | None:
        """Its place in the conversation."""
        place = len(self.said) - 1 if self.judging is None else self.judging
        return place if 0 <= place < len(self.said) and self.said[place].request_id else None

    def answers_up_to(self, place: int) -> int:
        """The number of this answer, counted from 1."""
        return sum(turn.version is not None for turn in self.said[: place + 1])

    @property
    def last_question(self) -> int | None:
        """The place of the question to which the last answer was given."""
        return len(self.said) - 2 if self.said and self.said[-1].version else None

    def named(self) -> str:
        """The id of the visit, given at its first question: Gradio copies one fresh talk for every page load."""
        self.session_id = self.session_id or f"visit-{uuid.uuid4().hex[:12]}"
        return self.session_id

    def end_turn(self) -> None:
        """Keep what was answered so far; a question that got no answer at all is removed again."""
        if self.growing:
            self.said.append(Turn(self.growing, self.version or "the model", self._request_id))
        elif self.said and self.said[-1].version is None:
            self.said[-1:], self.editing = self._before, self._edited
        self.growing, self._before = None, []

    def stop(self) -> str:
        """Keep what was written of the answer that grows; returns the id of its request, empty where none had begun."""
        stopped = self._call_id if self.growing else ""
        self.end_turn()
        return stopped

    def go_on_from(self, before: "Conversation") -> None:
        """With a copy of what another load of the page showed: an answer that is still written there goes on for
        nobody."""
        said = [replace(turn, judged=dict(turn.judged)) for turn in before.said]
        unsent = said[-1].text if before.growing == "" else before.unsent
        vars(self).update(vars(before) | {"said": said, "unsent": unsent})
        self.end_turn()

    def forget(self) -> None:
        """Start over, in the same visit."""
        self.said, self.growing, self.version, self.editing, self._before = [], None, None, None, []
        self.unsent, self.judging = "", None

    async def ask(
        self, chats: Chats, question: str, visitor: Visitor, place: int | None = None, again: bool = False
    ) -> AsyncGenerator[None]:
        """Say it and let the answer grow; each step is something new to show. Closing it frees the place.

        Args:
            place: of the question that it is asked in the place of; what came after goes too, and all of it is restored
                if no new answer comes.
            again: for another answer to the same, drawn so that it differs.

        Raises:
            RequestError: there is no answer, and why; the question is removed again.
        """
        self.asks += 1
        asks = self.asks
        place = len(self.said) if place is None else place
        self.said, self._before = [*self.said[:place], Turn(question)], self.said[place:]
        self._edited, self._request_id, self.version, self.editing = self.editing, None, None, None
        self._call_id, self.judging = "", None
        self.growing = ""
        yield
        try:
            call = chats.begin(FOLLOW_ROLLOUT, self.messages, Sampling(), visitor, again)
            self.version, self._call_id = call.version, call.request_id
            shown = time.monotonic()
            async with aclosing(cast(AsyncGenerator[str | Answer], call.stream())) as events:
                async for event in events:
                    if self.growing is None or self.asks != asks:
                        return  # stopped, and perhaps something else asked, before Gradio cancels this
                    if isinstance(event, Answer):
                        self.growing, self._request_id = event.text, call.request_id
                    else:
                        self.growing += event
                        if time.monotonic() - shown >= SHOW_EVERY_S:
                            shown = time.monotonic()
                            yield
        finally:
            if self.asks == asks:
                self.end_turn()
        yield
