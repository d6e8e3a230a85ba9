"""What a tab keeps is ids, and a vote is sent again on the very pair that it was given on."""

from typing import Any

import pytest

from dpo_pipeline.core.votes import VoteReason
from dpo_pipeline.serving.pages.ab_kept import asked_on, kept_of, unsent_vote
from dpo_pipeline.serving.pages.ab_visit import Visit
from dpo_pipeline.serving.services.comparison_prompt import ComparisonPrompt
from dpo_pipeline.serving.services.comparison_views import ComparisonView, Recorded


def visit(comparison: str, voted: bool = False) -> Visit:
    made = Visit(session_id="visit-0123456789ab", turn=3, question=ComparisonPrompt("Why?", "other", origin="bank"))
    made.shown = ComparisonView(comparison, "signed", "Why?", "other", "Because.", "So.", "2026-11-28T00:00:00Z")
    if voted:
        made.voted = "left", Recorded("evt-1", comparison, "v1.0", "v1.1", "other", "ui", repeated=False)
    return made


def unsent(shown: str, choice: str = "left") -> list[dict[str, Any]]:
    return [{"shown": shown, "choice": choice, "tags": ["clear"], "words": " so "}]


def test_texts_and_names_are_not_kept() -> None:
    kept = kept_of(visit("cmp-1", voted=True))
    assert "cmp-1" in kept and not any(text in kept for text in ("Because", "Why", "v1.", "So."))


def test_what_was_asked_is_kept_until_there_is_a_pair() -> None:
    asking = Visit(session_id="visit-0123456789ab", turn=3, question=ComparisonPrompt("Why do owls hoot?", "other"))
    assert asked_on(kept_of(asking)) == "Why do owls hoot?"
    turns = [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."}]
    asking.question = ComparisonPrompt([*turns, {"role": "user", "content": "Why so?"}], "other")
    assert asked_on(kept_of(asking)) == "Why so?"
    asking.question = ComparisonPrompt("Of the bank?", "other", origin="bank")
    assert asked_on(kept_of(asking)) == asked_on(kept_of(visit("cmp-1"))) == asked_on("") == ""


def test_a_vote_is_sent_again_on_its_own_pair_only() -> None:
    first, second = visit("cmp-1"), visit("cmp-2")
    vote = unsent_vote(unsent(kept_of(first)), first)
    assert vote and (vote.choice, vote.why) == ("left", VoteReason(None, ("clear",), "so"))
    assert unsent_vote(unsent(kept_of(first)), second) is None, "the next pair is there already: the vote was heard"
    assert unsent_vote(unsent(kept_of(first)), visit("cmp-1", voted=True)) is None
    assert unsent_vote(unsent(kept_of(first)), Visit()) is None


def test_of_two_on_one_pair_the_last_is_sent() -> None:
    first = visit("cmp-1")
    vote = unsent_vote([*unsent(kept_of(first)), *unsent(kept_of(first), "right")], first)
    assert vote and vote.choice == "right"


@pytest.mark.parametrize("given", [None, {}, {"shown": "", "choice": "left"}, {"shown": 1}, "x"])
def test_whatever_else_is_kept_is_no_vote_and_hides_none(given: Any) -> None:
    first = visit("cmp-1")
    assert unsent_vote([given], first) is None and unsent_vote([given], Visit()) is None
    assert unsent_vote([given, *unsent(kept_of(first)), given], first)


def test_an_unknown_choice_is_no_vote() -> None:
    first = visit("cmp-1")
    assert unsent_vote(unsent(kept_of(first), "a"), first) is None
