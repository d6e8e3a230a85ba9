"""Evidence of harm: seldom found where there is none, however often one looks; soon where there is."""

import math

import numpy as np
import pytest
from scipy.stats import binom

from dpo_pipeline.core.sequential_tests import (
    Events,
    Opinions,
    Shares,
    arms_are_uneven,
    difference_bounds,
    ratio_e_value,
    ratio_p_value,
    share_bounds,
)

ALPHA = 0.01


def test_no_data_says_nothing() -> None:
    assert ratio_e_value([Events()], 1.5) == ratio_e_value([Events(50, 0, 50, 0)], 1.5) == 1.0
    assert ratio_e_value([Events(50, 3, 0, 0)], 1.5) == 1.0
    assert share_bounds(Shares(), ALPHA) == (0.0, 1.0)
    assert difference_bounds(Opinions(1, 4.0), Opinions(50, 4.0, 1.0), ALPHA) == (-math.inf, math.inf)
    assert not arms_are_uneven(0, 0, 0.001)


def test_by_hand() -> None:
    """Ten events, all in a new arm of half the people: each doubles the odds of large ratios against 1.5."""
    assert ratio_e_value([Events(100, 10, 100, 0)], 1.5) > 40
    assert ratio_e_value([Events(100, 5, 100, 5)], 1.5) < 1
    assert ratio_e_value([Events(100, 0, 100, 10)], 1.5) < 0.1


def test_the_chance_of_so_many_bad_events_is_the_binomial_one() -> None:
    """Against scipy's, with half the units in each arm and a million of them too."""
    for bad, of_new, ratio in ((10, 8, 1.0), (400, 230, 1.1), (1_000_000, 500_900, 1.0)):
        events = Events(2 * bad, of_new, 2 * bad, bad - of_new)
        expected = binom.sf(of_new - 1, bad, ratio / (1 + ratio))
        assert ratio_p_value([events], ratio) == pytest.approx(expected, rel=1e-6)
    assert ratio_p_value([], 1.0) == 1.0


@pytest.mark.slow
@pytest.mark.parametrize("rate", [0.02, 0.2])
def test_equal_arms_are_seldom_told_apart(rate: float) -> None:
    """400 pairs of equal canaries, looked at after every twenty people of 1,000."""
    draw = np.random.default_rng(1)
    false = 0
    for _ in range(400):
        new, control = (draw.random((2, 1000)) < rate).cumsum(axis=1)
        false += any(
            ratio_e_value([Events(n, int(new[n - 1]), n, int(control[n - 1]))], 1.0) >= 1 / ALPHA
            for n in range(20, 1001, 20)
        )
    assert false / 400 <= ALPHA


def test_twenty_per_cent_errors_are_found_soon() -> None:
    draw = np.random.default_rng(2)
    needed = []
    for _ in range(200):
        new = (draw.random(600) < 0.20).cumsum()
        control = (draw.random(600) < 0.01).cumsum()
        found = (
            n
            for n in range(1, 601)
            if ratio_e_value([Events(n, int(new[n - 1]), n, int(control[n - 1]))], 1.5) >= 1 / ALPHA
        )
        needed.append(next(found, 10_000))
    print(f"20 % against 1 % errors: median {np.median(needed):.0f} people in each arm")
    assert np.median(needed) <= 150


@pytest.mark.slow
def test_the_difference_of_means_covers_at_all_times() -> None:
    draw = np.random.default_rng(3)
    ratings = np.array([1, 2, 3, 4, 5])
    missed = 0
    for _ in range(400):
        new, control = draw.choice(ratings, size=(2, 600), p=[0.05, 0.1, 0.2, 0.35, 0.3])
        for n in range(20, 601, 20):
            first, second = new[:n], control[:n]
            low, high = difference_bounds(
                Opinions(n, float(first.mean()), float(first.var(ddof=1))),
                Opinions(n, float(second.mean()), float(second.var(ddof=1))),
                0.05,
            )
            if not low <= 0 <= high:
                missed += 1
                break
    assert missed / 400 <= 0.05


def test_groups_drawn_alike_are_seldom_called_uneven_and_others_are() -> None:
    draw = np.random.default_rng(4)
    false = found = 0
    for _ in range(300):
        even, uneven = (draw.random(3000) < 0.5).cumsum(), (draw.random(3000) < 0.57).cumsum()
        looks = range(50, 3001, 50)
        false += any(arms_are_uneven(int(even[n - 1]), n - int(even[n - 1]), 0.001) for n in looks)
        found += any(arms_are_uneven(int(uneven[n - 1]), n - int(uneven[n - 1]), 0.001) for n in looks)
    assert false / 300 <= 0.01 and found / 300 > 0.95
