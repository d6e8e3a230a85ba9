"""What a request's body may hold: refused before it is admitted, so that nothing of it counts against a version."""

from typing import Any

import pytest
from pydantic import ValidationError

from dpo_pipeline.serving.bodies import (
    LONGEST_TEXT,
    Body,
    ComparisonRequest,
    FeedbackRequest,
    RolloutOrder,
    VoteRequest,
)
from dpo_pipeline.serving.chat_bodies import ChatRequest

HALF = "a\ud83d"
REFUSED = r"half a surrogate pair|as a unicode string|at most 32000"


def chat(content: Any = "hi", **fields: Any) -> ChatRequest:
    return ChatRequest(messages=[{"role": "user", "content": content}], **fields)  # type: ignore[list-item]


@pytest.mark.parametrize(
    "content",
    [
        HALF,
        [{"type": "text", "text": HALF}],
        [{"type": "text", "text": "fine"}, {"type": "text", "text": HALF}],
        "x" * (LONGEST_TEXT + 1),
        [{"type": "text", "text": "x" * (LONGEST_TEXT + 1)}],
        [{"type": "text", "text": "x" * (LONGEST_TEXT // 2 + 1)}] * 2,
    ],
)
def test_a_text_that_cannot_be_taken_is_refused_in_every_place(content: Any) -> None:
    with pytest.raises(ValidationError, match=REFUSED):
        chat(content)


@pytest.mark.parametrize("field", ["model", "user"])
def test_names_are_texts_too(field: str) -> None:
    with pytest.raises(ValidationError, match=REFUSED):
        chat(**{field: HALF})
    with pytest.raises(ValidationError, match=REFUSED):
        ComparisonRequest(prompt="hi", models=["v1.0", HALF])


def test_what_openai_takes_is_taken() -> None:
    found = chat(max_tokens=8192, top_p=0, seed=2**63 + 5).sampling()
    assert (found.max_tokens, found.seed) == (8192, 5) and 0 < (found.top_p or 0) < 1e-5
    assert chat(seed=-1).sampling().seed is None
    assert chat(seed=-(2**63)).sampling().seed == 0 and chat(seed=-2).sampling().seed == 2**31 - 2
    assert chat(max_completion_tokens=9).sampling().max_tokens == 9


@pytest.mark.parametrize("fields", [{"max_tokens": 0}, {"seed": -(2**63) - 1}, {"seed": 2**64}, {"top_p": 1.5}])
def test_what_means_nothing_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        chat(**fields)


def test_null_is_absent_everywhere() -> None:
    found = chat(user=None, temperature=None, stream=None, n=None, max_tokens=None)
    assert found.user == "" and found.model == "chat" and ChatRequest(**chat().model_dump() | {"model": None})
    assert ComparisonRequest(prompt="hi", category=None, models=None, annotator=None).category == "other"
    with pytest.raises(ValidationError, match="Field required"):
        ComparisonRequest(prompt=None)


def test_true_is_no_rating() -> None:
    assert FeedbackRequest(request_id="r", rating=4).rating == 4
    for wrong in (True, "5", 4.0, 0, 6):
        with pytest.raises(ValidationError):
            FeedbackRequest(request_id="r", rating=wrong)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("tools", [{"type": "function"}]), ("tool_choice", "required"), ("functions", [{}]), ("stop", ["\n"]),
        ("response_format", {"type": "json_object"}), ("logprobs", True), ("logit_bias", {"5": 1}), ("n", 2),
        ("frequency_penalty", 0.5), ("presence_penalty", -1), ("modalities", ["audio"]), ("top_k", 40),
    ],
)  # fmt: skip
def test_what_is_not_done_is_refused_by_name_with_what_is(name: str, value: Any) -> None:
    with pytest.raises(ValidationError, match=rf"{name} cannot be asked for here.*temperature, top_p, max_tokens"):
        chat(**{name: value})


def test_what_asks_for_nothing_is_taken() -> None:
    assert chat(
        tools=[], tool_choice="auto", stop=None, response_format={"type": "text"}, logprobs=False, logit_bias={}, n=1,
        frequency_penalty=0, presence_penalty=0.0, modalities=["text"], top_k=-1, store=True, metadata={"a": "b"},
    )  # fmt: skip


def test_names_of_roles_are_those_of_every_tool() -> None:
    rows = [{"role": name, "content": "x"} for name in ("developer", "System", "human", "User", "model", "gpt")]
    found = [each.as_pair[0] for each in ChatRequest(messages=rows).messages]  # type: ignore[arg-type]
    assert found == ["system", "system", "user", "user", "assistant", "assistant"]
    asked = ComparisonRequest(prompt=[{"role": "developer", "content": [{"type": "text", "text": "x"}]}])  # type: ignore[list-item]
    assert not isinstance(asked.prompt, str) and asked.prompt[0].as_pair == ("system", "x")
    for wrong in ("tool", "function", "", 3, None):
        with pytest.raises(ValidationError):
            ChatRequest(messages=[{"role": wrong, "content": "x"}])  # type: ignore[list-item]


def test_a_body_of_ten_thousand_fields_is_told_in_one_sentence() -> None:
    with pytest.raises(ValidationError) as refused:
        ComparisonRequest(**{"prompt": "x"} | {f"field{number}": 1 for number in range(10_000)})  # type: ignore[arg-type]
    assert refused.value.error_count() == 1 and "at most 100 fit" in str(refused.value)


@pytest.mark.parametrize("body", [ChatRequest, ComparisonRequest, FeedbackRequest, RolloutOrder, VoteRequest])
def test_what_the_page_of_the_api_sends_is_taken(body: type[Body]) -> None:
    [example] = body.model_json_schema()["examples"]
    assert body(**example).model_dump(exclude_unset=True) == example
