"""The same pair in every form that `dpo import` knows."""

from typing import Any

import pytest

from dpo_pipeline.core.imported_pair import as_preference
from dpo_pipeline.core.pair_formats import read_pair
from dpo_pipeline.core.votes import Message, decode_preference, encode_preference
from dpo_pipeline.errors import InvalidRecord

ASKED = [Message("user", "Hello?"), Message("assistant", "Hi."), Message("user", "How are you?")]


@pytest.mark.parametrize(
    ("row", "form", "prompt"),
    [
        ({"prompt": "How are you?", "chosen": "Well.", "rejected": "Bad."}, "minimal", "How are you?"),
        ({"question": "How are you?", "chosen": "Well.", "rejected": "Bad."}, "minimal", "How are you?"),
        (
            {"prompt": "Human: Hello?\n\nAssistant: Hi.\n\nHuman: How are you?", "chosen": "Well.", "rejected": "Bad."},
            "minimal",
            ASKED,
        ),
        (
            {
                "chosen": "\n\nHuman: Hello?\n\nAssistant: Hi.\n\nHuman: How are you?\n\nAssistant: Well.",
                "rejected": "\n\nHuman: Hello?\n\nAssistant: Hi.\n\nHuman: How are you?\n\nAssistant: Bad.",
            },
            "hh_rlhf",
            ASKED,
        ),
        (
            {
                "prompt": [{"role": m.role, "content": m.content} for m in ASKED],
                "chosen": [{"role": "assistant", "content": "Well."}],
                "rejected": [{"role": "assistant", "content": "Bad."}],
            },
            "conversational",
            ASKED,
        ),
        (
            {
                "chosen": [{"role": "user", "content": "How are you?"}, {"role": "assistant", "content": "Well."}],
                "rejected": [{"role": "user", "content": "How are you?"}, {"role": "assistant", "content": "Bad."}],
            },
            "conversational",
            [Message("user", "How are you?")],
        ),
        (
            {"instruction": "Answer.", "input": "How are you?", "chosen": "Well.", "rejected": "Bad."},
            "alpaca",
            "Answer.\nHow are you?",
        ),
        (
            {"instruction": "How are you?", "history": [["Hello?", "Hi."]], "chosen": "Well.", "rejected": "Bad."},
            "alpaca",
            ASKED,
        ),
        (
            {
                "system": "Be kind.",
                "conversations": [{"from": "human", "value": "How are you?"}],
                "chosen": {"from": "gpt", "value": "Well."},
                "rejected": {"from": "gpt", "value": "Bad."},
            },
            "sharegpt",
            [Message("system", "Be kind."), Message("user", "How are you?")],
        ),
        (
            {
                "conversations": [{"from": "human", "value": "How are you?"}],
                "chosen": {"from": "gpt", "value": "Well."},
                "rejected": {"from": "gpt", "value": "Bad."},
            },
            "sharegpt",
            [Message("user", "How are you?")],
        ),
    ],
)
def test_forms(row: dict[str, object], form: str, prompt: object) -> None:
    pair = read_pair(row)
    assert (pair.form, pair.prompt, pair.chosen, pair.rejected) == (form, prompt, "Well.", "Bad.")
    event = as_preference(pair, "file", "2026-01-01T00:00:00Z")
    assert decode_preference(encode_preference(event)) == event
    assert event.chosen == "Well." and event.source == "import"


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ("text", "a row is an object"),
        ({"prompt": "x", "chosen": "y"}, "no rejected"),
        ({"prompt": 3, "chosen": "a", "rejected": "b"}, "prompt must be a text; a number"),
        ({"prompt": "x", "chosen": None, "rejected": "b"}, "no chosen"),
        ({"chosen": "no transcript", "rejected": "neither"}, "no transcript"),
        ({"prompt": "x", "chosen": "\ud83d", "rejected": "b"}, "half a surrogate pair"),
        ({"instruction": "x", "history": ["y"], "chosen": "a", "rejected": "b"}, "list of .question, answer."),
        ({"conversations": [], "chosen": "a", "rejected": "b"}, "at least one message"),
        ({"conversations": [{"from": "robot", "value": "x"}], "chosen": "a", "rejected": "b"}, "needs a role"),
        (
            {"chosen": "Human: a\n\nAssistant: b", "rejected": "Human: c\n\nAssistant: d"},
            "differ before the last answer",
        ),
    ],
)
def test_what_is_in_no_form_is_refused_with_the_reason(row: object, told: str) -> None:
    with pytest.raises(InvalidRecord, match=told):
        read_pair(row)


def test_the_same_pair_is_the_same_event_and_sides_vary() -> None:
    pairs = [read_pair({"prompt": f"q{i}", "chosen": "yes", "rejected": "no"}) for i in range(200)]
    events = [as_preference(pair, "file", "2026-01-01T00:00:00Z") for pair in pairs]
    assert events[0].event_id == as_preference(pairs[0], "other", "2027-01-01T00:00:00Z").event_id
    assert 70 < sum(event.vote == "a" for event in events) < 130


BETTER = "Water boils at 100 degrees Celsius at sea level. It is lower on mountains."
WORSE = "Water boils at 90 degrees, I think."
QUESTION = "When does water boil?"
USER, GOOD, BAD = (
    {"role": "user", "content": QUESTION},
    {"role": "assistant", "content": BETTER},
    {"role": "assistant", "content": WORSE},
)
OTHER = {"role": "user", "content": "No."}
SYSTEM = {"role": "system", "content": "Be brief."}


@pytest.mark.parametrize(
    ("form", "row", "prompt"),
    [
        (
            "conversational",
            {"prompt": QUESTION, "chosen": [USER, GOOD], "rejected": [USER, BAD], "messages": [USER]},
            QUESTION,
        ),
        ("conversational", {"question": QUESTION, "chosen": [GOOD], "rejected": [BAD]}, QUESTION),
        (
            "conversational",
            {"system": "Be brief.", "chosen": [SYSTEM, USER, GOOD], "rejected": [SYSTEM, USER, BAD]},
            "system",
        ),
        ("conversational", {"prompt": [USER], "chosen": [GOOD], "rejected": [BAD]}, [("user", QUESTION)]),
        ("minimal", {"system": "Be brief.", "question": QUESTION, "chosen": BETTER, "rejected": WORSE}, "system"),
        ("minimal", {"system": "Be brief.", "input": QUESTION, "chosen": BETTER, "rejected": WORSE}, "system"),
        ("minimal", {"prompt": None, "question": QUESTION, "chosen": BETTER, "rejected": WORSE}, QUESTION),
        ("alpaca", {"instruction": QUESTION, "input": "", "output": [BETTER, WORSE]}, QUESTION),
        ("alpaca", {"instruction": QUESTION, "chosen": [BETTER], "rejected": [WORSE], "history": None}, QUESTION),
        ("chat template", {"messages": [SYSTEM, USER], "chosen": GOOD, "rejected": BAD}, "system"),
        (
            "openai",
            {"input": {"messages": [USER]}, "preferred_output": [GOOD], "non_preferred_output": [BAD]},
            [("user", QUESTION)],
        ),
        (
            "arena",
            {"conversation_a": [USER, BAD], "conversation_b": [USER, GOOD], "winner": "model_b"},
            [("user", QUESTION)],
        ),
        ("preference log", {"prompt": QUESTION, "response_a": WORSE, "response_b": BETTER, "vote": "b"}, QUESTION),
        ("sharegpt", {"conversations": [{"from": "Human", "value": QUESTION}], "chosen": GOOD, "rejected": BAD}, None),
        ("conversational", {"messages": [SYSTEM, USER], "chosen": [GOOD], "rejected": [BAD]}, "system"),
        ("alpaca", {"instruction": QUESTION, "prompt": QUESTION, "chosen": BETTER, "rejected": WORSE}, QUESTION),
        (
            "arena",
            {
                "conversation_a": [USER, BAD, OTHER, BAD],
                "conversation_b": [USER, GOOD, OTHER, GOOD],
                "winner": "model_b",
                "turn": 1,
            },
            [("user", QUESTION)],
        ),
    ],
)
def test_the_forms_of_other_tools(form: str, row: dict[str, Any], prompt: Any) -> None:
    pair = read_pair(row)
    assert (pair.form, pair.chosen, pair.rejected) == (form, BETTER, WORSE)
    if prompt == "system":
        assert [(each.role, each.content) for each in pair.prompt] == [("system", "Be brief."), ("user", QUESTION)]
    elif isinstance(prompt, list):
        assert [(each.role, each.content) for each in pair.prompt] == prompt
    elif prompt:
        assert pair.prompt == prompt


@pytest.mark.parametrize(
    ("row", "told"),
    [
        (
            {"chosen": [USER, GOOD, USER], "rejected": [USER, GOOD, {"role": "user", "content": "No."}]},
            "end with an answer",
        ),
        (
            {"prompt": "x", "chosen": [USER, BAD, USER, GOOD], "rejected": [USER, GOOD, USER, BAD]},
            "share their history",
        ),
        (
            {"prompt": "another", "chosen": [USER, GOOD], "rejected": [USER, BAD]},
            "is not what chosen and rejected begin",
        ),
        ({"prompt": QUESTION, "history": [["x", "y"]], "chosen": BETTER, "rejected": WORSE}, "history cannot be told"),
        ({"prompt": QUESTION, "input": "more", "chosen": BETTER, "rejected": WORSE}, "more than one of"),
        ({"prompt": " ", "chosen": BETTER, "rejected": WORSE}, "the prompt is empty"),
        ({"prompt": QUESTION, "completion": BETTER, "label": True}, "a labelled answer is no pair"),
        (
            {"prompt": [{"role": "tool", "content": "secret words"}], "chosen": GOOD, "rejected": BAD},
            "needs a role",
        ),
        ({"prompt": QUESTION, "chosen": USER, "rejected": BAD}, "chosen must be an answer"),
        *(
            ({name: value, **row}, f"{name} cannot be told")
            for name, value in {
                "system_prompt": "secret words",
                "context": "secret words",
                "tools": [{"type": "function"}],
                "history": [["secret words", "y"]],
                "passage": "secret words",
            }.items()
            for row in (
                {"question": QUESTION, "chosen": BETTER, "rejected": WORSE},
                {"chosen": [USER, GOOD], "rejected": [USER, BAD]},
                {"conversations": [USER], "chosen": GOOD, "rejected": BAD},
                {"messages": [USER], "chosen": GOOD, "rejected": BAD},
                {"input": {"messages": [USER]}, "preferred_output": [GOOD], "non_preferred_output": [BAD]},
                {"conversation_a": [USER, BAD], "conversation_b": [USER, GOOD], "winner": "a"},
                {"prompt": QUESTION, "response_a": WORSE, "response_b": BETTER, "vote": "b"},
            )
        ),
        ({"prompt": QUESTION, "messages": [OTHER], "chosen": BETTER, "rejected": WORSE}, "prompt cannot be told"),
        ({"instruction": QUESTION, "system_message": "x", "chosen": "a", "rejected": "b"}, "system_message cannot"),
        (
            {"chosen": "Human: a\n\nAssistant: b", "rejected": "Human: a\n\nAssistant: c", "system": "secret words"},
            "system cannot be told",
        ),
        ({"prompt": [{**USER, "tool_calls": [{}]}], "chosen": GOOD, "rejected": BAD}, "calls tools"),
        ({"prompt": [USER, GOOD], "chosen": GOOD, "rejected": BAD}, "ends with the assistant"),
        ({"prompt": [SYSTEM], "chosen": GOOD, "rejected": BAD}, "no turn of the user"),
        ({"prompt": QUESTION, "chosen": " ", "rejected": ""}, "both answers are empty"),
    ],
)
def test_what_cannot_be_kept_whole_is_refused_without_quoting_it(row: dict[str, Any], told: str) -> None:
    with pytest.raises(InvalidRecord, match=told) as refused:
        read_pair(row)
    assert "secret words" not in str(refused.value) and QUESTION not in str(refused.value)


def test_ties_of_an_arena_are_recorded_as_ties() -> None:
    tie = read_pair({"conversation_a": [USER, GOOD], "conversation_b": [USER, BAD], "winner": "tie"})
    event = as_preference(tie, "arena", "2026-01-01T00:00:00Z")
    assert (event.vote, event.chosen, {event.response_a, event.response_b}) == ("tie", None, {BETTER, WORSE})


def test_personal_data_is_not_brought_in() -> None:
    pair = read_pair({"prompt": "Is ann@mail.example.org mine?", "chosen": BETTER, "rejected": WORSE})
    assert as_preference(pair, "file", "2026-01-01T00:00:00Z").prompt == "Is [e-mail] mine?"


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ({"score_chosen": 8.5, "score_rejected": 4}, (8.5, 4.0)),
        ({"chosen-rating": 5, "rejected-rating": 2.0}, (5.0, 2.0)),
        ({"score_chosen": 8.5, "score_rejected": None}, None),
        ({"score_chosen": 10**400, "score_rejected": 1}, None),
    ],
)
def test_scores_are_kept_with_the_answers_they_belong_to(
    given: dict[str, Any], kept: tuple[float, float] | None
) -> None:
    for number in range(8):  # whichever side the better answer gets
        row = {"prompt": f"{QUESTION} {number}", "chosen": BETTER, "rejected": WORSE, **given}
        line = encode_preference(as_preference(read_pair(row), "file", "2026-01-01T00:00:00Z"))
        event = decode_preference(line)
        if kept is None:
            assert b"scores" not in line
        else:
            assert isinstance(event.scores, tuple)
            assert dict(zip((event.response_a, event.response_b), event.scores, strict=True)) == {
                BETTER: kept[0], WORSE: kept[1],
            }  # fmt: skip
