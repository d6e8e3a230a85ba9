"""What people's texts may be, whatever door they come through."""

import pytest

from dpo_pipeline.core.admission import (
    LONGEST_CONVERSATION,
    LONGEST_REASON,
    LONGEST_TEXT,
    MOST_MESSAGES,
    cannot_be_asked,
    check_messages,
    check_reason,
)
from dpo_pipeline.core.conversation import Messages
from dpo_pipeline.request_errors import InvalidRequest


@pytest.mark.parametrize(
    ("messages", "told"),
    [
        ((("user", "x" * (LONGEST_TEXT + 1)),), "Message 1 has 32001 characters"),
        ((("user", "fine"), ("user", "a\ud83d")), "Message 2 holds half a surrogate pair"),
        ((("user", "x"),) * (MOST_MESSAGES + 1), "101 messages; at most 100"),
        ((("user", "x" * LONGEST_TEXT),) * (LONGEST_CONVERSATION // LONGEST_TEXT + 1), "160000 characters"),
    ],
)
def test_a_conversation_that_is_too_much_is_refused(messages: Messages, told: str) -> None:
    with pytest.raises(InvalidRequest, match=told) as refused:
        check_messages(messages)
    assert len(str(refused.value)) < 200, "the text itself is not repeated"


def test_a_conversation_at_every_limit_is_taken() -> None:
    check_messages((("user", "x" * LONGEST_TEXT),) * (LONGEST_CONVERSATION // LONGEST_TEXT))
    check_messages((("user", "x"),) * MOST_MESSAGES)


@pytest.mark.parametrize(
    ("messages", "told"),
    [
        ((("user", "  "),), "is empty"),
        ((("user", "hi"), ("assistant", "ho")), "ends with the assistant"),
        ((("system", "be brief"),), "no turn of the user"),
        ((("user", "hi"), ("assistant", "ho"), ("user", "\n")), "last message"),
    ],
)
def test_what_two_answers_cannot_be_compared_on(messages: Messages, told: str) -> None:
    assert told in str(cannot_be_asked(messages))


def test_a_question_can_be_asked() -> None:
    assert cannot_be_asked((("system", "be brief"), ("user", "hi"))) is None


@pytest.mark.parametrize("reason", ["", " \n", "x" * (LONGEST_REASON + 1), "\ud83d"])
def test_an_order_needs_a_reason_that_can_be_kept(reason: str) -> None:
    with pytest.raises(InvalidRequest):
        check_reason(reason)
    assert check_reason("  too slow ") == "too slow"
