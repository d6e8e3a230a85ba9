"""Lines of the log: whole and consistent, or refused with the reason."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpo_pipeline.core.votes import (
    Message,
    Vote,
    decode_preference,
    encode_preference,
    outcome_for,
    pair_key,
    prompt_key,
    prompt_messages,
)
from dpo_pipeline.errors import InvalidRecord
from dpo_pipeline_tests.examples import LONG, SHORT, preference


def line(**changes: object) -> bytes:
    return json.dumps(json.loads(encode_preference(preference())) | changes).encode()


@given(st.text(min_size=1), st.text(), st.sampled_from(["a", "b", "tie", "both_bad"]))
def test_any_text_survives_the_way_to_disk_and_back(prompt: str, answer: str, vote: str) -> None:
    event = preference(prompt=prompt, response_a=answer, vote=vote)
    encoded = encode_preference(event)
    assert b"\n" not in encoded
    assert decode_preference(encoded) == event


@pytest.mark.parametrize(
    ("bad", "told"),
    [
        (b'{"event_id": "x"', "truncated"),
        (b"\xff\xfe{}", "malformed"),
        (b"[1, 2]", "Expected `object`"),
        (line(vote="maybe"), "Invalid enum value 'maybe'"),
        (line(event_id=""), "length >= 1"),
        (line(propensity=0), "> 0.0"),
        (line(schema=2), "Invalid enum value 2"),
        (line(category="weather"), "Invalid enum value 'weather'"),
        (line(chosen=SHORT), "does not agree"),
        (line(vote="tie"), "does not agree"),
        (b'{"event_id": "\xe4"}', "utf-8"),
    ],
)
def test_a_line_that_is_no_event_is_refused_with_the_reason(bad: bytes, told: str) -> None:
    with pytest.raises(InvalidRecord) as caught:
        decode_preference(bad)
    assert told.lower() in str(caught.value).lower()


def test_a_field_that_is_missing_is_named() -> None:
    row = json.loads(encode_preference(preference()))
    del row["response_b"]
    with pytest.raises(InvalidRecord, match="response_b"):
        decode_preference(json.dumps(row).encode())


def test_a_later_field_is_no_error() -> None:
    assert decode_preference(line(added_in_schema_1_1=True)) == preference()


def test_the_pair_is_the_same_whichever_side_is_a() -> None:
    swapped = preference(vote="b", response_a=SHORT, response_b=LONG)
    assert pair_key(swapped) == pair_key(preference())
    assert pair_key(preference(1)) != pair_key(preference())


def test_prompt_key_is_blind_to_case_and_white_space() -> None:
    assert prompt_key("Why is  the sky blue?") == prompt_key("why is the sky\nblue?")
    assert prompt_key("Why is the sky blue?") != prompt_key("Why is the sea blue?")


def test_a_text_and_messages_both_become_chat_messages() -> None:
    assert prompt_messages("hi") == [{"role": "user", "content": "hi"}]
    assert prompt_messages([Message("system", "be brief"), Message("user", "hi")])[0]["role"] == "system"


def test_a_vote_is_an_outcome_of_each_of_its_versions() -> None:
    votes: tuple[Vote, ...] = ("a", "b", "tie")
    assert [(outcome_for(vote, True), outcome_for(vote, False)) for vote in votes] == [
        ("win", "loss"),
        ("loss", "win"),
        ("tie", "tie"),
    ]
