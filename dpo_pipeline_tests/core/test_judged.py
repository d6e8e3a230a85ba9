"""Filters over judged pairs, and what an order does to one."""

from dataclasses import replace

import pytest

from dpo_pipeline.core.judged import JudgedPair, Wanted

PAIR = JudgedPair("e1", "2026-01-01", "Why?", "factual_qa", "v1.0", "v1.1", "Because.", "ÄRGER", "a", "p", "ui", ())
REFUSED = replace(PAIR, event_id="e2", failed=("similarity",), category="creative", source="api", model_a="v1.2")


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (Wanted(), "e1 e2"),
        (Wanted(verdict="valid"), "e1"),
        (Wanted(verdict="rejected"), "e2"),
        (Wanted(criterion="similarity"), "e2"),
        (Wanted(verdict="valid", criterion="similarity"), ""),
        (Wanted(category="creative"), "e2"),
        (Wanted(version="v1.0"), "e1"),
        (Wanted(version="v1.1"), "e1 e2"),
        (Wanted(source="ui"), "e1"),
        (Wanted(text=" ärger "), "e1 e2"),
        (Wanted(text="nowhere"), ""),
    ],
)
def test_filters(wanted: Wanted, found: str) -> None:
    assert " ".join(pair.event_id for pair in (PAIR, REFUSED) if wanted.fits(pair)) == found


def test_an_exclusion_comes_on_top_of_what_the_pair_failed_and_goes_without_a_trace() -> None:
    excluded = REFUSED.reviewed("exclude", "spam")
    assert (excluded.failed, excluded.reason, excluded.excluded) == (("similarity", "excluded"), "spam", True)
    assert excluded.reviewed("exclude", "again").failed == ("similarity", "excluded")
    assert excluded.reviewed("restore", "no") == REFUSED
    assert PAIR.reviewed("exclude", "x").reviewed("restore", "y").valid
