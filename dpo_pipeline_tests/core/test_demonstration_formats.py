"""The same demonstration in every form that DPO_SFT__DEMONSTRATIONS takes."""

from typing import Any

import pytest

from dpo_pipeline.core.demonstration_formats import read_demonstration
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
