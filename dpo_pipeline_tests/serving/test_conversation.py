"""One conversation of the chat page: what stays of it when an answer does not come."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from dpo_pipeline.core.answers import Answer
from dpo_pipeline.request_errors import QueueFull
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
        conversation.editing = place
        with pytest.raises(QueueFull):
            ask(conversation, busy, place)
        assert conversation.editing == place, "what is sent again goes to the same place"
        assert conversation.said == before and conversation.growing is None
        assert conversation.last is last, "it can still be spoken of"


def reloaded(before: Conversation) -> Conversation:
    loaded = Conversation()
    loaded.go_on_from(before)
    return loaded


def test_a_reload_goes_on_with_a_copy_that_the_answer_under_way_does_not_touch() -> None:
    """The page before still writes, or ends: neither shows in what was loaded since."""
    written = Conversation("visit", [Turn("Hi."), Turn("Hello!", "v1.0", "chatcmpl-1"), Turn("Why?")], growing="Beca")
    written.version = "v1.0"
    loaded = reloaded(written)
    written.growing = "Because"
    written.end_turn()
    assert told(loaded) == ["Hi.", "Hello!", "Why?", "Beca"] and loaded.last is None
    assert told(written) == ["Hi.", "Hello!", "Why?", "Because"]
    loaded.said[1].judged["thumb"] = "up"
    assert written.said[1].judged == {}


def test_a_question_whose_answer_had_not_begun_is_to_be_sent_again() -> None:
    asked = Conversation("visit", [Turn("Why?")], growing="")
    loaded = reloaded(asked)
    assert (told(loaded), loaded.unsent, loaded.growing) == ([], "Why?", None)


def test_what_comes_after_it_was_stopped_is_for_nobody() -> None:
    """Gradio cancels a moment later; meanwhile another question may be asked."""
    conversation = Conversation("visit")

    async def pieces() -> Any:
        yield "Be"
        assert conversation.stop() == "chatcmpl-1"
        conversation.growing, conversation.asks = "", conversation.asks + 1
        yield "cause"
        yield Answer("Because.", 2, 2, True)

    ask(conversation, lambda *given: SimpleNamespace(stream=pieces, version="v1.0", request_id="chatcmpl-1"), None)
    assert told(conversation) == ["Why?", "Be"] and conversation.last is None
    assert conversation.growing == "", "the next answer grows on"
    assert Conversation().stop() == ""
