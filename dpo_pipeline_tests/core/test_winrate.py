"""Hand-worked values, and error rates by simulation: looked at after every vote, as people do."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpo_pipeline.core.winrate import cap_per_person, confidence_sequence, win_rate


def test_sixty_of_a_hundred_is_no_win() -> None:
    low, high = confidence_sequence(60, 40, 0.05)
    assert (round(low, 3), round(high, 3)) == (0.441, 0.746)


def test_no_data_says_nothing() -> None:
    assert confidence_sequence(0, 0, 0.05) == (0.0, 1.0)
    nothing = win_rate([])
    assert nothing.rate is None and str(nothing) == "no comparisons"


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


@pytest.mark.parametrize("bad", [(-1, 0, 0.05), (1, 1, 0.0), (1, 1, 1.0)])
def test_nonsense_is_refused(bad: tuple[float, float, float]) -> None:
    with pytest.raises(ValueError, match="alpha"):
        confidence_sequence(*bad)


def test_identical_versions_are_seldom_told_apart_however_often_one_looks() -> None:
    false = sum(_decided(0.5, seed) is not None for seed in range(300))
    assert false / 300 <= 0.05


def test_a_clear_winner_is_found() -> None:
    found = [_decided(0.65, seed) for seed in range(100)]
    assert sum(votes is not None for votes in found) >= 95


def test_the_first_votes_of_a_person_count_up_to_the_cap() -> None:
    votes = [("eager", "win")] * 5 + [("calm", "loss")]
    assert cap_per_person(votes, 2) == ["win", "win", "loss"]


def _decided(rate: float, seed: int, votes: int = 600) -> int | None:
    """After how many votes the interval leaves one half; the bounds are checked every fifth vote."""
    draw, wins = random.Random(seed), 0
    for count in range(1, votes + 1):
        wins += draw.random() < rate
        if count % 5 == 0:
            low, high = confidence_sequence(wins, count - wins, 0.05)
            if low > 0.5 or high < 0.5:
                return count
    return None
