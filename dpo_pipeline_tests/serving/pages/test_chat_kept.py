"""What was said of a chat answer while nobody heard it is sent again: of that very answer, and once."""

from typing import Any

import pytest

from dpo_pipeline.serving.pages.chat_kept import digest, kept_of, unsent_feedback
from dpo_pipeline.serving.pages.conversation import Conversation, Turn


def talk(**judged: str | int) -> Conversation:
    said = [Turn("One?"), Turn("First.", "v1.0", "q1"), Turn("Two?"), Turn("Second.", "v1.0", "q2", dict(judged))]
    return Conversation(session_id="visit-" + "0" * 12, said=said, asks=2)


def unsent(shown: Conversation, *said: dict[str, Any]) -> list[Any]:
    return [{"shown": kept_of(shown), **each} for each in said]


def given(unsent: list[Any], talk: Conversation) -> list[tuple[str | None, dict[str, str | int]]]:
    return [(turn.request_id, given) for turn, given in unsent_feedback(unsent, talk)]


@pytest.mark.parametrize(
    ("said", "request_id", "value"),
    [
        ({"rating": 4}, "q2", {"rating": 4}),
        ({"place": 1, "thumb": "up"}, "q1", {"thumb": "up"}),
        ({"correction": "Better."}, "q2", {"correction": "Better."}),
    ],
)
def test_it_is_of_the_answer_that_it_was_said_of(said: dict[str, Any], request_id: str, value: dict[str, Any]) -> None:
    assert given(unsent(talk(), said), talk()) == [(request_id, value)]


def test_all_that_was_said_is_sent_and_of_the_same_the_newest() -> None:
    said = unsent(talk(), {"rating": 4}, {"place": 1, "thumb": "up"}, {"rating": 2}, {"place": 3, "thumb": "up"})
    assert given(said, talk()) == [("q2", {"rating": 2}), ("q1", {"thumb": "up"}), ("q2", {"thumb": "up"})]
    twice = unsent(talk(), {"correction": "Better."}, {"correction": "Better still."})
    assert given(twice, talk()) == [("q2", {"correction": "Better still."})]
    assert not given(twice, talk(correction=digest("Better still."))), "what it took the place of is not news"


def test_what_is_known_already_is_not_sent_again() -> None:
    assert not given(unsent(talk(), {"rating": 4}), talk(rating=4))
    assert not given(unsent(talk(), {"place": 3, "thumb": "up"}), talk(thumb="down"))
    known = talk(correction=digest("Better."))
    assert not given(unsent(talk(), {"correction": "Better."}), known)
    assert given(unsent(talk(), {"correction": "Better still."}), known), "there may be another"
    assert not given(unsent(talk(), {"correction": " Second. "}), talk()), "it is what was answered"


def test_of_another_conversation_nothing_is_sent() -> None:
    other = talk()
    other.said[3].request_id = "q3"
    assert not given(unsent(other, {"rating": 4}), talk())
    assert not given(unsent(talk(), {"place": 2, "thumb": "up"}), talk()), "a question"
    assert not given(unsent(talk(), {"place": -1, "thumb": "up"}), talk())
    assert not given(unsent(talk(), {"rating": 4}), Conversation())


@pytest.mark.parametrize("kept", [None, 3, {}, {"shown": 3}, {"shown": "x", "rating": 4}, {"rating": 4}])
def test_what_is_none_is_nothing_and_hides_nothing(kept: Any) -> None:
    assert given([kept, *unsent(talk(), {"rating": 4}), kept], talk()) == [("q2", {"rating": 4})]
