"""Agreement by hand and against published worked examples; flips and position bias as people make them."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpo_pipeline.core.agreement import Agreement, ShownVote, agreement, flip_rate, krippendorff_alpha, position_bias
from dpo_pipeline.core.votes import Vote

VOTES: list[Vote] = ["a", "b", "tie", "both_bad"]
LABELS = st.sampled_from(VOTES)


def test_kappa_by_hand() -> None:
    """Fifty items: 20 both yes, 15 both no, 5 and 10 apart: p_o = 0.7, p_e = 0.5, κ = 0.4."""
    first = ["yes"] * 25 + ["no"] * 25
    second = ["yes"] * 20 + ["no"] * 5 + ["yes"] * 10 + ["no"] * 15
    result = agreement(first, second)
    assert result.share == pytest.approx(0.7) and result.kappa == pytest.approx(0.4)


def test_one_label_only_leaves_kappa_open() -> None:
    assert agreement(["a", "a"], ["a", "a"]) == Agreement(2, 1.0, None)
    assert agreement([], []) == Agreement(0, None, None)
    with pytest.raises(ValueError, match="same items"):
        agreement(["a"], [])


@given(st.lists(st.tuples(LABELS, LABELS), min_size=1, max_size=50))
def test_kappa_is_symmetric_and_at_most_one(pairs: list[tuple[Vote, Vote]]) -> None:
    first, second = [one for one, _ in pairs], [other for _, other in pairs]
    there, back = agreement(first, second), agreement(second, first)
    assert there == back
    assert there.kappa is None or -1 <= there.kappa <= 1
    assert agreement(first, first).kappa in (1.0, None)


def test_alpha_of_krippendorffs_own_example() -> None:
    """Four observers, twelve units, values missing: nominal α = 0.743 (Krippendorff 2011, part C)."""
    observers = ["123321412...", "1233224125.3", ".3332342251.", "12332441251."]
    units = [[row[i] for row in observers if row[i] != "."] for i in range(12)]
    result = krippendorff_alpha(units)
    assert result.alpha == pytest.approx(0.743421052631579)
    assert result.units == 11
    assert result.low is not None and result.high is not None and result.low < 0.743 < result.high <= 1


def test_alpha_of_coins_is_nothing_and_of_copies_is_one() -> None:
    draw = np.random.default_rng(29)
    coins = draw.choice(["a", "b"], size=(2000, 3)).tolist()
    result = krippendorff_alpha(coins)
    assert result.alpha == pytest.approx(0, abs=0.04)
    assert result.low is not None and result.high is not None and result.low < 0 < result.high
    assert krippendorff_alpha([["a"] * 3, ["b"] * 2] * 20).alpha == 1
    assert krippendorff_alpha([["a", "a"], ["b"]]).alpha is None
    assert krippendorff_alpha([]).units == 0


@pytest.mark.parametrize("replicates", [0, 1, 1000])
def test_alpha_of_few_units_is_a_number_whatever_is_drawn(replicates: int) -> None:
    for count in range(2, 9):
        for units in itertools.combinations_with_replacement(["aa", "bb", "ab"], count):
            found = krippendorff_alpha(units, replicates=replicates)
            assert found.alpha is None if len(set("".join(units))) < 2 else -1 <= float(found.alpha or 0) <= 1
            assert replicates < 1000 or found.alpha is None or found.low is not None


def test_position_bias_counts_only_decided_votes() -> None:
    shown: list[ShownVote] = ["left" if i % 4 else "right" for i in range(120)]
    result = position_bias([*shown, "tie", "both_bad"])
    assert (result.left_share, result.undecided, result.found) == (0.75, 2, True)
    none = position_bias([])
    assert none.left_share is None and not none.found
    with pytest.raises(ValueError, match="middle"):
        position_bias(["middle"])  # type: ignore[list-item]


def test_flip_rate_by_hand() -> None:
    """Agreement 0.82 = 0.1² + 0.9²: one vote in ten is the wrong way round."""
    repeats = _times(41, "a", "a") + _times(41, "b", "b") + _times(10, "a", "b") + _times(8, "b", "a")
    result = flip_rate([*repeats, ("tie", "a"), ("both_bad", "both_bad")])
    assert result.rate == pytest.approx(0.1)
    assert (result.repeats, result.decided_twice) == (102, 100)
    assert result.low < 0.1 < result.high


def test_less_agreement_than_coins_is_no_information() -> None:
    assert flip_rate(_times(3, "a", "b") + _times(1, "a", "a")).rate == 0.5
    empty = flip_rate([])
    assert empty.rate is None and (empty.low, empty.high) == (0, 0.5)
    with pytest.raises(ValueError, match="left"):
        flip_rate([("left", "a")])  # type: ignore[list-item]


@given(st.lists(st.tuples(LABELS, LABELS), max_size=80))
def test_flip_rate_stays_within_its_interval(repeats: list[tuple[Vote, Vote]]) -> None:
    result = flip_rate(repeats)
    assert 0 <= result.low <= result.high <= 0.5
    if result.rate is not None:
        assert result.low - 1e-9 <= result.rate <= result.high + 1e-9


@pytest.mark.parametrize("flips", [0.05, 0.15, 0.3])
def test_simulated_flips_are_found_again(flips: float) -> None:
    draw = np.random.default_rng(31)
    held, rates = 0, []
    for _ in range(200):
        true = draw.random(400) < 0.5
        one, two = (true ^ (draw.random(400) < flips) for _ in range(2))
        result = flip_rate([("a" if x else "b", "a" if y else "b") for x, y in zip(one, two, strict=True)])
        held += result.low <= flips <= result.high
        rates.append(result.rate if result.rate is not None else math.nan)
    assert np.mean(rates) == pytest.approx(flips, abs=0.01)
    assert held / 200 >= 0.95


def _times(count: int, first: Vote, second: Vote) -> list[tuple[Vote, Vote]]:
    return [(first, second) for _ in range(count)]
