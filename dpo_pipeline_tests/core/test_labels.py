"""What people say of answers, as pairs and labelled answers: which, from whom, and what is left out and why."""

from typing import Any

import pytest

from dpo_pipeline.core.feedback import described, read_feedback, stars_of
from dpo_pipeline.core.labels import TrainableFeedback, trainable, what_becomes
from dpo_pipeline.core.usable_feedback import Said
from dpo_pipeline.core.votes import Message, prompt_key
from dpo_pipeline.request_errors import InvalidRequest
from dpo_pipeline.settings import Collection, QualityCriteria
from dpo_pipeline_tests.examples import preference

ANSWER = "The capital of France is Paris. It lies on the Seine."
CORRECTED = "It is Paris, on the Seine."
ALL = Collection().feedback_shares


def said(number: int, signal: Any, value: Any = "", person: str = "", **fields: Any) -> Said:
    told: dict[str, Any] = {
        "event_id": f"evt-{number}",
        "person": person or f"person-{number % 9}",
        "request_id": f"request-{number}",
        "prompt": f"What is the capital of France? ({number})",
        "answer": ANSWER,
    }
    return Said(signal=signal, value=value, **{**told, **fields})


def found(
    *given: Said, shares: Any = ALL, held_out: frozenset[str] = frozenset(), **criteria: Any
) -> TrainableFeedback:
    return trainable(given, [], held_out, QualityCriteria(**criteria), shares)


@pytest.mark.parametrize(
    ("signal", "value", "good"),
    [("thumb", "up", True), ("thumb", "down", False), ("rating", 5, True), ("rating", 2, False), ("rating", 1, False)],
)
def test_a_thumb_and_a_clear_rating_label_the_answer(signal: Any, value: Any, good: bool) -> None:
    [answer] = found(said(1, signal, value)).labelled
    assert (answer.good, answer.answer, answer.source, answer.event_id) == (good, ANSWER, signal, "evt-1")


@pytest.mark.parametrize(
    ("signal", "value"), [("rating", 3), ("rating", 4), ("copy", ""), ("follow_up", ""), ("comment", "Hm, well, no.")]
)
def test_what_says_too_little_labels_nothing(signal: Any, value: Any) -> None:
    told = found(said(1, signal, value))
    assert (told.pairs, told.labelled) == ((), ())
    assert told.left_out == ({"judgement": {"says_too_little": 1}} if signal == "rating" else {})


def test_a_correction_is_a_pair_and_may_be_the_shorter() -> None:
    [pair] = found(said(1, "correction", CORRECTED)).pairs
    assert (pair.chosen, pair.rejected, pair.source) == (CORRECTED, ANSWER, "correction")
    assert found(said(1, "correction", ANSWER + " ")).left_out == {"correction": {"similarity": 1}}
    assert found(said(1, "correction", CORRECTED, answer="")).left_out == {"correction": {"empty": 1}}, "of old records"


def test_an_answer_liked_after_another_was_asked_for_is_better_than_the_one_before() -> None:
    asked = {"prompt": "What is the capital of France?", "person": "ann"}
    before = said(1, "regenerate", answer="I do not know that.", **asked)
    [pair] = found(before, said(2, "thumb", "up", **asked)).pairs
    assert (pair.chosen, pair.rejected, pair.source) == (ANSWER, "I do not know that.", "regenerated")
    for other in (
        said(2, "thumb", "down", **asked),
        said(2, "thumb", "up", **{**asked, "person": "ben"}),
        said(2, "thumb", "up", **{**asked, "prompt": "And of Spain?"}),
        said(2, "thumb", "up", **{**asked, "prompt": [Message("user", "Hi."), Message("user", asked["prompt"])]}),
    ):
        assert found(before, other).pairs == ()
    liked = said(2, "thumb", "up", request_id="r", **asked)
    assert found(before, liked).labelled == (), "an event is a pair or a label"
    off = found(before, liked, shares={"regenerated": 0.0, "thumb": 1.0})
    assert off.pairs == () and [each.good for each in off.labelled] == [True], "one is switched off, not the other"
    later = found(before, said(4, "comment", "Better.", request_id="r", **asked), said(5, "thumb", "up", **asked))
    assert later.pairs == (), "an answer to the same question, months later"
    regretted = found(before, liked, said(3, "thumb", "down", request_id="r", **asked))
    assert regretted.pairs == () and [each.good for each in regretted.labelled] == [False]


def test_both_answers_of_a_comparison_may_be_bad() -> None:
    vote = preference(1, "both_bad")
    bad = trainable([], [vote], frozenset(), QualityCriteria(), ALL).labelled
    assert [(each.answer, each.good) for each in bad] == [(vote.response_a, False), (vote.response_b, False)]
    assert {each.event_id for each in bad} == {"evt-1"}


def test_the_criteria_of_votes_hold() -> None:
    conversation = [Message("user", "Hi."), Message("assistant", "Hello."), Message("user", "Held out?")]
    left = found(
        said(7, "thumb", "up", person="ben", request_id="s"),
        said(8, "rating", 3, person="ben", request_id="s"),
        said(1, "thumb", "up", answer="Yes."),
        said(2, "thumb", "up", answer="I am ChatGPT, and it is Paris."),
        said(3, "thumb", "down", answer="Paris.<|im_end|><|im_start|>system"),
        said(4, "thumb", "up", prompt=conversation),
        said(5, "thumb", "up", person="ann", request_id="r"),
        said(6, "thumb", "down", person="ann", request_id="r"),
        held_out=frozenset({prompt_key("held out?")}),
    )
    assert [(each.event_id, each.good) for each in left.labelled] == [("evt-6", False)], "who changes their mind counts"
    assert left.left_out == {
        "judgement": {
            "too_short": 1,
            "self_naming": 1,
            "template_tokens": 1,
            "held_out_question": 1,
            "said_again": 2,
            "says_too_little": 1,
        }
    }


def test_nobody_and_no_crowd_of_strangers_holds_more_than_their_share() -> None:
    loud = [said(number, "thumb", "up", person="loud") for number in range(200)]
    assert len(found(*loud).labelled) == 25, "what anybody may contribute"
    fours = [said(1000 + number, "rating", 4, person=f"quiet-{number % 10}") for number in range(1000)]
    assert len(found(*fours, *loud).labelled) == 25, "what says nothing gives nobody room"
    team = [said(number, "thumb", "up", person=f"person-{number % 8}") for number in range(100)]
    crowd = [said(100 + n, "thumb", "down", person=f"invented-{n}", anonymous=True) for n in range(200)]
    both = found(*team, *crowd)
    assert sum(each.good for each in both.labelled) == 100 and len(both.labelled) == 105
    assert both.left_out == {"judgement": {"anonymous_share": 195}}


def test_a_source_is_switched_off_or_used_in_part() -> None:
    given = [said(number, "thumb", "up", person=f"person-{number % 20}") for number in range(400)]
    some = {each.event_id for each in found(*given, shares={"thumb": 0.5}).labelled}
    more = {each.event_id for each in found(*given, shares={"thumb": 0.8}).labelled}
    assert some < more and 150 < len(some) < 250
    assert found(*given, shares={"rating": 1.0}).labelled == ()


def test_one_signal_at_a_time() -> None:
    assert read_feedback(thumb="up") == ("thumb", "up") and read_feedback(action="copy") == ("copy", "")
    assert read_feedback(rating=4) == ("rating", 4) and read_feedback(comment="Fine.") == ("comment", "Fine.")
    for given in ({}, {"rating": 4, "thumb": "up"}):
        with pytest.raises(InvalidRequest, match="exactly one"):
            read_feedback(**given)  # type: ignore[arg-type]
    with pytest.raises(InvalidRequest, match="comment is blank"):
        read_feedback(comment=" \n")


def test_a_thumb_is_an_end_of_the_scale_where_satisfaction_is_counted() -> None:
    assert [stars_of("rating", 4), stars_of("thumb", "up"), stars_of("thumb", "down")] == [4, 5, 1]
    assert stars_of("correction", "5") is stars_of("copy", "") is None
    assert [described("rating", 2), described("thumb", "down"), described("follow_up", "")] == [
        "rating 2 of 5", "thumb down", "follow up",
    ]  # fmt: skip


def test_whoever_asks_is_told_what_becomes_of_it_or_why_nothing() -> None:
    given = (said(1, "thumb", "up"), said(2, "rating", 3), said(3, "comment", "Fine."), said(4, "copy"))
    usable = found(*given, said(5, "correction", CORRECTED))
    assert [what_becomes(each.event_id, each.signal, usable) for each in given] == [
        "a labelled answer, for the next dataset whose objective is kto",
        "not trained on: a rating of 3 or 4 calls an answer neither good nor bad",
        "kept for people to read",
        "kept beside the answer; it judges nothing by itself",
    ]
    assert what_becomes("evt-5", "correction", usable) == "a pair, for the next dataset"
    switched_off = found(*given, shares={**ALL, "thumb": 0.0})
    assert what_becomes("evt-1", "thumb", switched_off).startswith("not trained on: only a share of this kind is used")
