"""Weeks, streaks and shares, by hand-worked examples."""

from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpo_pipeline.core.contributions import checked_nickname, streak, week_of
from dpo_pipeline.core.vote_count import VoteCount
from dpo_pipeline.request_errors import InvalidRequest
from dpo_pipeline.settings import Cadence

MONDAY = date(2026, 3, 2)
THURSDAY = MONDAY + timedelta(days=3)


def test_a_week_by_hand() -> None:
    """Ann voted on Tuesday to Thursday, Bob on Sunday and Monday, two people without a name on Wednesday."""
    votes = {
        ("ann", MONDAY + timedelta(days=1)): 10,
        ("ann", MONDAY + timedelta(days=2)): 20,
        ("ann", THURSDAY): 30,
        ("bob", MONDAY - timedelta(days=1)): 500,
        ("bob", MONDAY): 15,
        ("carl", MONDAY + timedelta(days=2)): 20,
        ("dora", MONDAY + timedelta(days=2)): 5,
        ("old", MONDAY - timedelta(days=9)): 40,
        ("import-hh", THURSDAY): 10_000,
    }
    week = week_of(votes, {"ann": "Ann", "bob": "Bob", "eve": "Eve"}, THURSDAY, Cadence())
    assert (week.first_day, week.votes, week.others, week.others_votes) == (MONDAY, 100, 2, 25)
    assert [(each.nickname, each.votes, each.share, each.streak) for each in week.named] == [
        ("Ann", 60, 0.6, 3),
        ("Bob", 15, 0.15, 0),
        ("Eve", 0, 0.0, 0),
    ]
    assert week.progress == pytest.approx(1 / 3) and week.missing == 200
    assert "200 more votes reach the target" in week.level


def test_simulated_votes_are_counted_apart_and_are_nobodys() -> None:
    simulated = {("robot-1", MONDAY): 40, ("robot-2", MONDAY): 50, ("robot-1", MONDAY - timedelta(days=1)): 9}
    week = week_of({("ann", MONDAY): 10}, {}, MONDAY, Cadence(), simulated)
    assert (week.count, week.votes, week.simulated) == (VoteCount(10, 90), 100, 2)
    assert (week.others, week.others_votes) == (1, 10)
    assert str(week.count) == "10 by people, 90 simulated"


@pytest.mark.parametrize(
    ("votes", "told"),
    [
        (0, "100 more votes reach the minimum"),
        (99, "1 more votes"),
        (100, "200 more"),
        (300, "reached"),
        (500, "little"),
    ],
)
def test_what_the_number_of_votes_means(votes: int, told: str) -> None:
    week = week_of({("ann", MONDAY): votes}, {}, MONDAY, Cadence())
    assert told in week.level


def test_nobody_has_voted() -> None:
    week = week_of({}, {"ann": "Ann"}, MONDAY, Cadence())
    assert (week.votes, week.others, week.named[0].share, week.progress) == (0, 0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("ago", "length"), [([], 0), ([0], 1), ([1], 1), ([2], 0), ([0, 1, 2], 3), ([1, 2], 2), ([0, 2, 3], 1)]
)
def test_a_day_that_is_not_over_breaks_no_streak(ago: list[int], length: int) -> None:
    assert streak({THURSDAY - timedelta(days=days) for days in ago}, THURSDAY) == length


@given(st.dictionaries(st.tuples(st.sampled_from("abcdef"), st.dates(MONDAY, THURSDAY)), st.integers(1, 50)))
def test_everybody_is_counted_once(votes: dict[tuple[str, date], int]) -> None:
    week = week_of(votes, {"a": "Ann", "b": "Bob"}, THURSDAY, Cadence())
    assert week.votes == sum(votes.values()) == week.others_votes + sum(each.votes for each in week.named)


@pytest.mark.parametrize(("given_", "kept"), [("  Ada  L. ", "Ada L."), ("Ünal", "Ünal"), ("李雷", "李雷")])
def test_nicknames_are_tidied(given_: str, kept: str) -> None:
    assert checked_nickname(given_) == kept


@pytest.mark.parametrize("given_", ["", " ", "a", "x" * 25, "a\nb", "evil\u202eeman", "zero\u200bwidth", "a\x00b"])
def test_nicknames_that_are_refused(given_: str) -> None:
    with pytest.raises(InvalidRequest, match="nickname"):
        checked_nickname(given_)
