"""The split: no prompt on both sides, none held out, the same pairs the same hash."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from dpo_pipeline.core.dataset import Pair, split_pairs
from dpo_pipeline.core.votes import Message, prompt_key
from dpo_pipeline.errors import DatasetTooSmall


def pair(number: int, prompt: int | None = None) -> Pair:
    return Pair(
        event_id=f"evt-{number:04d}",
        prompt=f"question {number if prompt is None else prompt}",
        chosen=f"a long answer {number}",
        rejected="short",
        category="other",
        source="api",
    )


@given(st.integers(2, 80), st.integers(1, 30), st.floats(0.05, 0.5))
def test_no_prompt_is_on_both_sides_and_no_pair_is_lost(count: int, prompts: int, share: float) -> None:
    pairs = [pair(i, i % (prompts + 1)) for i in range(count)]
    try:
        split = split_pairs(pairs, frozenset(), share, at_least=1)
    except DatasetTooSmall:
        return
    train = {prompt_key(p.prompt) for p in split.train}
    held = {prompt_key(p.prompt) for p in split.eval}
    assert not train & held and held
    assert len(split.train) + len(split.eval) + sum(split.left_out.values()) == count


def test_the_order_of_the_log_does_not_change_the_hash() -> None:
    pairs = [pair(i) for i in range(40)]
    shuffled = random.Random(1).sample(pairs, len(pairs))
    one, other = (split_pairs(p, frozenset(), 0.2, 8) for p in (pairs, shuffled))
    assert one.content_hash == other.content_hash
    assert split_pairs(pairs[:-1], frozenset(), 0.2, 8).content_hash != one.content_hash


def test_a_prompt_never_changes_sides_when_more_pairs_come_in() -> None:
    few = split_pairs([pair(i) for i in range(30)], frozenset(), 0.2, 8)
    many = split_pairs([pair(i) for i in range(300)], frozenset(), 0.2, 8)
    assert {p.event_id for p in few.eval} <= {p.event_id for p in many.eval}


def test_held_out_questions_and_duplicates_are_left_out_and_counted() -> None:
    pairs = [pair(i) for i in range(40)]
    repeated = pair(0)
    again = [*pairs, Pair(**{**_fields(repeated), "event_id": "evt-9999"})]
    split = split_pairs(again, frozenset([prompt_key("question 5")]), 0.2, 8)
    assert split.left_out == {"held_out_question": 1, "duplicate": 1}


def test_a_held_out_question_stays_out_of_conversations_too() -> None:
    asked = "Why is the sky blue?"
    messages = [Message(role="user", content=asked)]
    turns = [Message(role="user", content="Hello."), Message(role="assistant", content="Hello!"), *messages]
    conversations = [structs.replace(pair(90), prompt=messages), structs.replace(pair(91), prompt=turns)]
    split = split_pairs([*(pair(n) for n in range(20)), *conversations], frozenset({prompt_key(asked)}), 0.1, 4)
    assert split.left_out == {"held_out_question": 2}
    assert prompt_key(turns) == prompt_key(asked) == prompt_key(f" {asked.upper()}")


def test_fewer_pairs_than_a_batch_is_an_error_that_says_what_to_do() -> None:
    with pytest.raises(DatasetTooSmall, match=r"at least 8 pairs \(one batch\) on two prompts were required"):
        split_pairs([pair(i) for i in range(5)], frozenset(), 0.1, at_least=8)


def test_one_prompt_alone_leaves_nothing_to_evaluate_on() -> None:
    with pytest.raises(DatasetTooSmall, match="1 prompts"):
        split_pairs([pair(i, prompt=0) for i in range(20)], frozenset(), 0.1, at_least=8)


def _fields(p: Pair) -> dict[str, object]:
    return {name: getattr(p, name) for name in p.__struct_fields__}
