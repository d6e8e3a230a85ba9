"""The same demonstration in every form that DPO_SFT__DEMONSTRATIONS takes; and questions to judge versions on."""

from typing import Any

import pytest

from dpo_pipeline.core.demonstration_formats import read_demonstration, read_question
from dpo_pipeline.core.votes import Message
from dpo_pipeline.errors import InvalidRecord

SYSTEM, USER, ANSWER = (
    {"role": "system", "content": "Be kind."},
    {"role": "user", "content": "How are you?"},
    {"role": "assistant", "content": "Well."},
)
ASKED = [Message("system", "Be kind."), Message("user", "How are you?")]


@pytest.mark.parametrize(
    "row",
    [
        {"messages": [SYSTEM, USER, ANSWER]},
        {"system": "Be kind.", "messages": [USER, ANSWER]},
        {"conversations": [{"from": "system", "value": "Be kind."}, {"from": "human", "value": "How are you?"},
                           {"from": "gpt", "value": "Well."}]},
        {"system": "Be kind.", "instruction": "How are you?", "input": "", "output": "Well.", "history": None},
        {"prompt": [SYSTEM, USER], "completion": [ANSWER]},
        {"system": "Be kind.", "prompt": "How are you?", "completion": "Well."},
        {"system": "Be kind.", "prompt": "How are you?", "response": "Well."},
    ],
)  # fmt: skip
def test_forms(row: dict[str, Any]) -> None:
    assert read_demonstration(row) == (ASKED, "Well.")


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ("text", "a row is an object"),
        ({"messages": [USER]}, "does not end with an answer"),
        ({"messages": [ANSWER]}, "prompt is empty|no turn of the user"),
        ({"prompt": "secret words", "completion": " "}, "the answer is empty"),
        ({"prompt": "secret words"}, "no prompt with an answer"),
        ({"messages": [USER, ANSWER], "tools": [{}]}, "tools cannot be told"),
        ({"prompt": "Why?", "response": "x", "context": "secret words"}, "context cannot be told"),
        ({"prompt": "Why?", "completion": [USER]}, "must be an answer"),
        ({"messages": [{"role": "tool", "content": "secret words"}, ANSWER]}, "needs a role"),
    ],
)
def test_what_is_no_demonstration_is_refused_without_quoting_it(row: Any, told: str) -> None:
    with pytest.raises(InvalidRecord, match=told) as refused:
        read_demonstration(row)
    assert "secret words" not in str(refused.value)


@pytest.mark.parametrize(
    ("row", "question", "reference"),
    [
        ({"question": "Why is the sky blue?"}, "Why is the sky blue?", ""),
        ({"prompt": "Why?", "completion": "Because."}, "Why?", "Because."),
        ({"prompt": [{"role": "user", "content": "Why?"}]}, "Why?", ""),
        ({"messages": [{"role": "user", "content": "Why?"}]}, "Why?", ""),
        ({"messages": [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."}]}, "Why?", "So."),
        ({"instruction": "Sum up.", "input": "A text.", "output": "It is one."}, "Sum up.\nA text.", "It is one."),
        ({"instruction": "Sum up.", "input": "A text."}, "Sum up.\nA text.", ""),
        ({"question": "Why?", "answer": "Because."}, "Why?", "Because."),
        ({"conversations": [{"from": "human", "value": "Why?"}]}, "Why?", ""),
    ],
)
def test_questions_to_judge_versions_on(row: dict[str, Any], question: str, reference: str) -> None:
    found = read_question(row)
    assert (found.question, found.reference, found.category) == (question, reference, "other")
    assert read_question({**row, "category": "creative"}).category == "creative"


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ({"prompt": "  "}, "the prompt is empty"),
        ({"answer": "Because."}, "no prompt with an answer"),
        ({"prompt": "Why?", "system": "Be brief."}, "a single message"),
        ({"question": "What does it say?", "context": "A page."}, "context cannot be told"),
        ({"instruction": "And now?", "history": [["Why?", "So."]]}, "a single message"),
        (
            {"messages": [{"role": r, "content": "Why?"} for r in ("user", "assistant", "user")]},
            "a single message",
        ),
        (["Why?"], "a row is an object"),
    ],
)
def test_what_is_no_question_to_judge_versions_on(row: Any, why: str) -> None:
    with pytest.raises(InvalidRecord, match=why):
        read_question(row)
