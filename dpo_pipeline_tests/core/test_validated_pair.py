"""Filters over validated pairs, and what an order does to one."""

from dataclasses import replace

import pytest

from dpo_pipeline.core.validated_pair import PairFilter, ValidatedPair

PAIR = ValidatedPair("e1", "2026-01-01", "Why?", "factual_qa", "v1.0", "v1.1", "Because.", "ÄRGER", "a", "p", "ui", ())
REFUSED = replace(PAIR, event_id="e2", failed=("similarity",), category="creative", source="api", model_a="v1.2")


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (PairFilter(), "e1 e2"),
        (PairFilter(result="valid"), "e1"),
        (PairFilter(result="rejected"), "e2"),
        (PairFilter(criterion="similarity"), "e2"),
        (PairFilter(result="valid", criterion="similarity"), ""),
        (PairFilter(category="creative"), "e2"),
        (PairFilter(version="v1.0"), "e1"),
        (PairFilter(version="v1.1"), "e1 e2"),
        (PairFilter(source="ui"), "e1"),
        (PairFilter(text=" ärger "), "e1 e2"),
        (PairFilter(text="nowhere"), ""),
    ],
)
def test_filters(wanted: PairFilter, found: str) -> None:
    assert " ".join(pair.event_id for pair in (PAIR, REFUSED) if wanted.fits(pair)) == found


def test_an_exclusion_comes_on_top_of_what_the_pair_failed_and_goes_without_a_trace() -> None:
    excluded = REFUSED.reviewed("exclude", "spam")
    assert (excluded.failed, excluded.reason, excluded.taken_out) == (("similarity", "excluded"), "spam", True)
    assert excluded.reviewed("exclude", "again").failed == ("similarity", "excluded")
    assert excluded.reviewed("restore", "no") == REFUSED
    assert PAIR.reviewed("exclude", "x").reviewed("restore", "y").valid
    assert PAIR.reviewed("set_aside", "v1.2").reviewed("exclude", "x").failed == ("excluded",)
