"""Pages of the judged preferences: which rows, and what is said about the rest."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from dpo_pipeline.core.validated_pair import (
    EXCLUDED,
    JUDGEMENT,
    MEANINGS,
    SET_ASIDE,
    SHORT_MEANINGS,
    WITHDRAWN,
    PairFilter,
    ValidatedPair,
)
from dpo_pipeline.request_errors import InvalidRequest
from dpo_pipeline.serving.accounts import Accounts
from dpo_pipeline.serving.pages.review_layout import pair_shown
from dpo_pipeline.serving.services.reviews import PAGE, Order, ReviewedPair, Reviews, find, page_of
from dpo_pipeline.stores.key_ring import Account
from dpo_pipeline.stores.reviews import ReviewLog, publish_validated_pairs
from dpo_pipeline_tests.examples import withdrawal

PAIR = ValidatedPair("e0", "2026-01-01", "Why?", "factual_qa", "v1.1", "v1.0", "Because.", "So.", "a", "p", "ui", ())
# 25 pairs of which every fifth is creative.
PAIRS = [
    ReviewedPair(replace(PAIR, event_id=f"e{number}", category="creative" if number % 5 == 0 else "factual_qa"), True)
    for number in range(25)
]


@pytest.mark.parametrize(("asked", "number", "first", "rows"), [
    (0, 0, "e0", PAGE), (1, 1, "e10", PAGE), (2, 2, "e20", 5), (9, 2, "e20", 5), (-1, 0, "e0", PAGE),
])  # fmt: skip
def test_a_page_beyond_the_first_or_last_is_the_nearest(asked: int, number: int, first: str, rows: int) -> None:
    found = page_of(lambda: iter(PAIRS), PairFilter(), asked)
    assert (found.number, found.rows[0].pair.event_id, len(found.rows)) == (number, first, rows)
    assert (found.fits, found.collected, found.pages, found.versions) == (25, 25, 3, ("v1.0", "v1.1"))


def test_a_full_last_page_is_the_last_one() -> None:
    found = page_of(lambda: PAIRS[: 2 * PAGE], PairFilter(), 5)
    assert (found.number, found.pages, len(found.rows)) == (1, 2, PAGE)


def test_only_what_fits_is_listed_and_all_is_counted() -> None:
    found = page_of(lambda: PAIRS, PairFilter(category="creative"), 0)
    assert [seen.pair.event_id for seen in found.rows] == ["e0", "e5", "e10", "e15", "e20"]
    assert (found.fits, found.collected, found.pages) == (5, 25, 1)
    assert find(found.rows, "e5") == PAIRS[5]
    assert find(found.rows, "e1") is None and find(found.rows, None) is None


def test_nothing_is_one_empty_page() -> None:
    for pairs, wanted in (([], PairFilter()), (PAIRS, PairFilter(text="nowhere"))):
        found = page_of(partial(iter, pairs), wanted, 3)
        assert (found.rows, found.number, found.fits, found.pages) == ((), 0, 0, 1)
        assert found.collected == len(pairs)


def seen(name: str, *failed: str, **fields: Any) -> ReviewedPair:
    return ReviewedPair(replace(PAIR, event_id=name, failed=failed), True, **fields)


MIXED = [
    seen("newest"),
    seen("looked at", reviewed=True),
    seen("rejected", "more_detailed"),
    seen("excluded", EXCLUDED, reviewed=True),
    seen("in question", SET_ASIDE),
    seen("older"),
]


def test_what_no_person_has_looked_at_comes_first_and_what_is_in_question_before_all() -> None:
    found = page_of(lambda: MIXED, PairFilter(), 0)
    order = ["in question", "rejected", "newest", "older", "looked at", "excluded"]
    assert [each.pair.event_id for each in found.rows] == order
    assert (found.reviewed, found.reviewable) == (2, 6)


def test_what_is_reviewed_can_be_left_out_and_is_still_counted() -> None:
    found = page_of(lambda: MIXED, PairFilter("valid", review="open"), 0)
    assert [each.pair.event_id for each in found.rows] == ["newest", "older"]
    assert (found.fits, found.reviewed, found.reviewable) == (2, 1, 3)
    done = page_of(lambda: MIXED, PairFilter(review="done"), 0)
    assert [each.pair.event_id for each in done.rows] == ["looked at", "excluded"]


def test_every_criterion_is_said_in_words() -> None:
    assert SHORT_MEANINGS.keys() == MEANINGS.keys()
    assert not any("_" in words for words in SHORT_MEANINGS.values())


class Anybody(Accounts):
    """Lets everybody review."""

    def __init__(self) -> None:
        pass

    def allowed(self, *given: Any) -> Account:
        return Account("Rita", "reviewer")


def test_a_pair_is_kept_where_it_is_not_taken_out_and_counts_as_reviewed(tmp_path: Path) -> None:
    table, log = tmp_path / "review.jsonl", ReviewLog(tmp_path / "reviews.jsonl")
    publish_validated_pairs(table, [PAIR, replace(PAIR, event_id="e1")])
    reviews = Reviews([table], log, Anybody(), str)
    assert not any(each.reviewed for each in reviews.collected())
    reviews.order("e0", "keep", " ", None, "")
    kept = find(reviews.collected(), "e0")
    assert kept and kept.reviewed and kept.pair.valid and kept.in_effect and log.taken_out() == {}
    with pytest.raises(InvalidRequest, match="'keep' already"):
        reviews.order("e0", "keep", "", None, "")
    with pytest.raises(InvalidRequest, match="'keep' already"):
        reviews.order("e0", "restore", "why not", None, "")
    reviews.order("e0", "exclude", "it is not", None, "")
    with pytest.raises(InvalidRequest, match="Restore it"):
        reviews.order("e0", "keep", "", None, "")
    assert log.taken_out().keys() == {"e0"}


def test_what_its_voter_took_back_is_no_reviewers_to_restore(tmp_path: Path) -> None:
    table, log = tmp_path / "review.jsonl", ReviewLog(tmp_path / "reviews.jsonl")
    publish_validated_pairs(table, [PAIR])
    log.append(withdrawal("e0"))
    reviews = Reviews([table], log, Anybody(), str)
    found = find(reviews.collected(), "e0")
    assert found and found.pair.failed == (WITHDRAWN,) and found.reviewed
    assert "<b>Taken back</b>" in pair_shown(found, ZoneInfo("UTC"))
    orders: tuple[Order, ...] = ("restore", "exclude", "keep")
    for action in orders:
        with pytest.raises(InvalidRequest, match="took it back as a slip"):
            reviews.order("e0", action, "why not", None, "")
    assert reviews.changed_by(PairFilter(), "restore") == reviews.changed_by(PairFilter(), "exclude") == []


def test_a_judgement_of_one_answer_is_shown_as_such() -> None:
    thumb = replace(PAIR, model_b=JUDGEMENT, response_b="thumb up", source="thumb", category="other")
    told = pair_shown(
        ReviewedPair(thumb.reviewed("set_aside", "v1.2 was rolled back"), True), ZoneInfo("Europe/Berlin")
    )
    for words in ("one answer alone: thumb up", "Answer, v1.1", "<b>Set aside</b>", "v1.2 was rolled back", "Thumb"):
        assert words in told
    assert "01 Jan 2026" in told
    for words in ("Answer B", "Words that differ", f">{JUDGEMENT}", "Rejected"):
        assert words not in told
