"""Hand-worked values of the raw win rate, and what must hold of any. Error rates: test_winrate_error_rates."""

import math
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpo_pipeline.core.winrate import Outcome, confidence_sequence, win_rate

OUTCOMES = st.sampled_from(["win", "loss", "tie"])


def test_sixty_of_a_hundred_is_no_win() -> None:
    low, high = confidence_sequence(60, 40, 0.05)
    assert (round(low, 3), round(high, 3)) == (0.441, 0.746)


def test_the_bounds_of_one_win_by_hand() -> None:
    # B(2, 1) = 1/2, so p is kept while 1/2 / p < 20.
    assert confidence_sequence(1, 0, 0.05) == pytest.approx((0.025, 1.0))


def test_no_data_says_nothing() -> None:
    assert confidence_sequence(0, 0, 0.05) == (0.0, 1.0)
    nothing = win_rate([])
    assert nothing.rate is None and str(nothing) == "no comparisons"
    assert win_rate([], people=[]).people == 0


def test_ties_count_half() -> None:
    result = win_rate(["win", "tie", "tie", "loss", "win"])
    assert result.rate == pytest.approx(0.6)
    assert result.count == 5


@given(st.integers(0, 400), st.integers(0, 400), st.sampled_from([0.01, 0.05, 0.2]))
def test_the_interval_holds_the_rate_and_mirrors(wins: int, losses: int, alpha: float) -> None:
    low, high = confidence_sequence(wins, losses, alpha)
    assert 0 <= low <= high <= 1
    if wins + losses:
        assert low <= wins / (wins + losses) <= high
    mirrored = confidence_sequence(losses, wins, alpha)
    assert mirrored == pytest.approx((1 - high, 1 - low), abs=1e-9)


@given(st.floats(5, 3000), st.floats(5, 3000))
def test_both_bounds_solve_the_equation(wins: float, losses: float) -> None:
    log_beta = math.lgamma(1 + wins) + math.lgamma(1 + losses) - math.lgamma(2 + wins + losses)
    for p in confidence_sequence(wins, losses, 0.05):
        evidence = log_beta - wins * math.log(p) - losses * math.log1p(-p)
        assert evidence == pytest.approx(math.log(20), abs=1e-6)


@pytest.mark.parametrize(
    "bad", [(-1, 0, 0.05), (1, 1, 0.0), (1, 1, 1.0), (math.nan, 1, 0.05), (1, math.inf, 0.05), (1, 1, math.nan)]
)
def test_nonsense_is_refused(bad: tuple[float, float, float]) -> None:
    with pytest.raises(ValueError, match="alpha"):
        confidence_sequence(*bad)


def test_an_unknown_outcome_is_neither_dropped_nor_a_tie() -> None:
    with pytest.raises(ValueError, match="both_bad"):
        win_rate(["win", "both_bad"])  # type: ignore[list-item]


def test_a_person_counts_once_however_much_they_vote() -> None:
    others: list[Outcome] = ["loss", "loss", "tie"]
    outcomes: list[Outcome] = ["win" for _ in range(100)]
    outcomes += others
    people = ["eager"] * 100 + ["calm", "calm", "third"]
    result = win_rate(outcomes, people=people)
    assert result.rate == pytest.approx(0.5)
    assert (result.low, result.high) == confidence_sequence(1.5, 1.5, 0.05)
    assert (result.people, result.count) == (3, 103)
    assert str(result).endswith("of 103 by 3 people")


def test_the_cap_takes_the_first_votes_of_each_person() -> None:
    result = win_rate(["win", "loss", "loss", "win", "tie"], people=["a", "a", "a", "b", "b"], cap=2)
    assert (result.wins, result.losses, result.ties) == (2, 1, 1)
    assert result.rate == pytest.approx((0.5 + 0.75) / 2)


def test_a_cap_without_people_is_refused() -> None:
    with pytest.raises(ValueError, match="people"):
        win_rate(["win"], cap=2)
    with pytest.raises(ValueError, match="at least 1"):
        win_rate(["win"], people=["a"], cap=0)
    with pytest.raises(ValueError, match="zip"):
        win_rate(["win"], people=[])


@pytest.mark.slow
@given(st.lists(OUTCOMES, max_size=40))
def test_one_vote_a_person_is_the_plain_rate(outcomes: list[Outcome]) -> None:
    plain, personal = win_rate(outcomes), win_rate(outcomes, people=[str(i) for i in range(len(outcomes))], cap=3)
    assert personal.rate == plain.rate and personal.low == plain.low and personal.high == plain.high


@given(st.lists(st.tuples(st.sampled_from("abcde"), OUTCOMES), min_size=1, max_size=60), st.integers(1, 5))
def test_the_personal_rate_lies_within_its_interval(votes: list[tuple[str, Outcome]], cap: int) -> None:
    result = win_rate([outcome for _, outcome in votes], people=[person for person, _ in votes], cap=cap)
    assert result.rate is not None and 0 <= result.low <= result.rate <= result.high <= 1
    assert result.count == sum(min(given, cap) for given in Counter(person for person, _ in votes).values())
