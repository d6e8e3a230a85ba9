"""One conversation of the chat page: what stays of it when an answer does not come."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from dpo_pipeline.errors import QueueFull
from dpo_pipeline.serving.pages.conversation import Conversation, Turn


def told(conversation: Conversation) -> list[str]:
    return [turn.text for turn in conversation.said]


def ask(conversation: Conversation, begin: Any, place: int | None) -> None:
    async def whole() -> None:
        async for _ in conversation.ask(SimpleNamespace(begin=begin), "Why?", None, place):  # type: ignore[arg-type]
            pass

    asyncio.run(whole())


def test_the_answer_before_stays_where_no_other_comes() -> None:
    def busy(*given: Any) -> Any:
        raise QueueFull("Too many wait.")

    last = Turn("Because.", "v1.0", "chatcmpl-1", {"thumb": "up"})
    before = [Turn("Hi."), Turn("Hello!", "v1.0"), Turn("Why?"), last]
    conversation = Conversation("visit", list(before))
    assert conversation.last_question == 2
    for place in (2, 0, None):
        with pytest.raises(QueueFull):
            ask(conversation, busy, place)
        assert conversation.said == before and conversation.growing is None
        assert conversation.last is last, "it can still be spoken of"
