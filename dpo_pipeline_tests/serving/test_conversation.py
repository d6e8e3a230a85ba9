"""One conversation of the chat page: what stays of it when an answer does not come."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from dpo_pipeline.errors import QueueFull
from dpo_pipeline.serving.pages.conversation import Conversation, Turn


def told(conversation: Conversation) -> list[str]:
    return [turn.text for turn in conversation.said]


def ask(conversation: Conversation, begin: Any, instead: bool) -> None:
    async def whole() -> None:
        async for _ in conversation.ask(SimpleNamespace(begin=begin), "Why?", None, instead):  # type: ignore[arg-type]
            pass

    asyncio.run(whole())


def test_the_answer_before_stays_where_no_other_comes() -> None:
    def busy(*given: Any) -> Any:
        raise QueueFull("Too many wait.")

    before = [Turn("Hi."), Turn("Hello!", "v1.0"), Turn("Why?"), Turn("Because.", "v1.0")]
    conversation = Conversation("visit", list(before), request_id="chatcmpl-1", version="v1.0", judged={"thumb"})
    assert conversation.last_question == "Why?"
    with pytest.raises(QueueFull):
        ask(conversation, busy, instead=True)
    assert conversation.said == before and conversation.growing is None
    assert (conversation.request_id, conversation.judged) == ("chatcmpl-1", {"thumb"}), "it can still be spoken of"
    with pytest.raises(QueueFull):
        ask(conversation, busy, instead=False)
    assert conversation.said == before and conversation.request_id is None
