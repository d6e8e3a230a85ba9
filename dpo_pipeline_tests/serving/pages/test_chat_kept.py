"""What was said of a chat answer while nobody heard it is sent again: of that very answer, and once."""

import json
from typing import Any

import pytest

from dpo_pipeline.serving.pages.chat_kept import digest, kept_of, unsent_feedback
from dpo_pipeline.serving.pages.conversation import Conversation, Turn


def talk(**judged: str | int) -> Conversation:
    said = [Turn("One?"), Turn("First.", "v1.0", "q1"), Turn("Two?"), Turn("Second.", "v1.0", "q2", dict(judged))]
    return Conversation(session_id="visit-" + "0" * 12, said=said, asks=2)


def unsent(shown: Conversation, **said: Any) -> str:
    return json.dumps({"shown": kept_of(shown), **said})


@pytest.mark.parametrize(
    ("said", "request_id", "given"),
    [
        ({"rating": 4}, "q2", {"rating": 4}),
        ({"place": 1, "thumb": "up"}, "q1", {"thumb": "up"}),
        ({"correction": "Better."}, "q2", {"correction": "Better."}),
    ],
)
def test_it_is_of_the_answer_that_it_was_said_of(said: dict[str, Any], request_id: str, given: dict[str, Any]) -> None:
    found = unsent_feedback(unsent(talk(), **said), talk())
    assert found is not None and (found[0].request_id, found[1]) == (request_id, given)


def test_what_is_known_already_is_not_sent_again() -> None:
    assert unsent_feedback(unsent(talk(), rating=4), talk(rating=4)) is None
    assert unsent_feedback(unsent(talk(), place=3, thumb="up"), talk(thumb="down")) is None
    known = talk(correction=digest("Better."))
    assert unsent_feedback(unsent(talk(), correction="Better."), known) is None
    assert unsent_feedback(unsent(talk(), correction="Better still."), known) is not None, "there may be another"


def test_of_another_conversation_nothing_is_sent() -> None:
    other = talk()
    other.said[3].request_id = "q3"
    assert unsent_feedback(unsent(other, rating=4), talk()) is None
    assert unsent_feedback(unsent(talk(), place=2, thumb="up"), talk()) is None, "a question"
    assert unsent_feedback(unsent(talk(), place=-1, thumb="up"), talk()) is None
    assert unsent_feedback(unsent(talk(), rating=4), Conversation()) is None


@pytest.mark.parametrize("kept", ["", "null", "[]", '{"shown": 3}', '{"shown": "x", "rating": 4}', '{"rating": 4}'])
def test_what_is_none_is_nothing(kept: str) -> None:
    assert unsent_feedback(kept, talk()) is None
