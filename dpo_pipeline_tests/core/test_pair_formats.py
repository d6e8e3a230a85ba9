"""The same pair in every form that `dpo import` knows."""

import pytest

from dpo_pipeline.core.pair_formats import as_preference, read_pair
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
        ({"prompt": 3, "chosen": "a", "rejected": "b"}, "prompt must be a text; int"),
        ({"prompt": "x", "chosen": None, "rejected": "b"}, "chosen must be a text; NoneType"),
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
