"""Scores at equal style: found again where the truth is known, and equal to the plain ones where style says nothing."""

import math
import random
from collections import Counter
from typing import Any

import numpy as np
import pytest

from dpo_pipeline.core.leaderboard import (
    Battle,
    StyleLean,
    at_equal_style,
    bradley_terry,
    lean_of,
    standings,
    style_controlled,
)
from dpo_pipeline.core.leaderboard.style import STEPS

EVEN = StyleLean(0, 0)


def drawn(votes: int, strength: dict[str, float], taste: tuple[float, float], seed: int) -> Counter[Any]:
    """Votes of people who like some versions, and some styles; the second version's answers are mostly longer."""
    draw, found = random.Random(seed), Counter[tuple[Battle, StyleLean]]()
    names = list(strength)
    for _ in range(votes):
        first, second = draw.sample(names, 2)
        lean = StyleLean(draw.randint(-3, 3) + 2 * (first == names[1]) - 2 * (second == names[1]), draw.randint(-2, 2))
        logit = strength[first] - strength[second] + (taste[0] * lean.length + taste[1] * lean.formatting) / STEPS
        winner = "model_a" if draw.random() < 1 / (1 + math.exp(-logit)) else "model_b"
        found[(first, second, winner), lean] += 1
    return found


def plain(styled: Counter[Any]) -> Counter[Battle]:
    found: Counter[Battle] = Counter()
    for (battle, _), count in styled.items():
        found[battle] += count
    return found


def test_what_people_like_of_style_is_told_from_what_they_like_of_a_version() -> None:
    """v1.1 is no better than v1.0, only longer; the plain score says otherwise."""
    votes = drawn(20_000, {"v1.0": 0.0, "v1.1": 0.0, "v1.2": 0.5}, (1.2, 0.4), seed=1)
    found = standings(plain(votes))
    styled = at_equal_style(found, votes)
    assert found.board is not None and styled is not None
    strengths = found.board.strengths
    assert strengths["v1.1"].elo[1] > strengths["v1.0"].elo[2], "longer answers win"
    assert abs(styled.scores["v1.1"][0] - styled.scores["v1.0"][0]) < 25
    assert next(iter(styled.scores)) == "v1.2"
    assert (styled.length[0], styled.formatting[0]) == pytest.approx((1.2, 0.4), abs=0.12)
    odds, low, high = styled.odds_of_twice_the_length
    assert low < math.exp(1.2 / 3) < high and high - low < 0.2 and odds == pytest.approx(math.exp(1.2 / 3), rel=0.05)


def test_where_styles_are_even_the_scores_are_the_plain_ones() -> None:
    votes = {(("a", "b", "model_a"), EVEN): 30, (("b", "a", "model_a"), EVEN): 10, (("b", "c", "tie"), EVEN): 8}
    styled = style_controlled(votes, ("a", "b", "c"), prior_votes=0.5)
    board = bradley_terry([battle for (battle, _), count in votes.items() for _ in range(count)], prior_votes=0.5)
    assert (styled.length[0], styled.formatting[0]) == (0.0, 0.0)
    for name, strength in board.strengths.items():
        assert styled.scores[name][0] == pytest.approx(strength.elo[0], abs=0.5)


def test_the_side_of_a_version_and_the_order_of_names_change_nothing() -> None:
    votes = drawn(2_000, {"x": 0.0, "y": 0.3}, (0.8, 0.0), seed=2)
    turned: Counter[Any] = Counter()
    opposite = {"model_a": "model_b", "model_b": "model_a"}
    for ((first, second, winner), lean), count in votes.items():
        turned[(second, first, opposite[winner]), StyleLean(-lean.length, -lean.formatting)] += count
    one, other = (style_controlled(each, names, 0.5) for each, names in ((votes, ("x", "y")), (turned, ("y", "x"))))
    assert one.length == pytest.approx(other.length)
    for name in one.scores:
        assert one.scores[name] == pytest.approx(other.scores[name])


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    held = 0
    for seed in range(120):
        styled = style_controlled(drawn(400, {"x": 0.0, "y": 0.4}, (1.0, 0.0), seed), ("x", "y"), prior_votes=0.0)
        _, low, high = styled.scores["y"]
        held += low <= 1000 + 0.2 * 400 / math.log(10) <= high
    assert held >= 108, f"{held} of 120"


def test_who_always_wins_by_length_alone_has_finite_scores() -> None:
    votes = {(("x", "y", "model_a"), StyleLean(4, 0)): 50, (("x", "y", "both_bad"), EVEN): 3}
    styled = style_controlled(votes, ("x", "y"), prior_votes=0.5)
    score, low, high = styled.scores["x"]
    assert np.isfinite([score, *styled.length]).all() and styled.length[0] > 0
    board = standings(plain(Counter(votes))).board
    assert board is not None
    plain_low, plain_high = board.strengths["x"].elo[1:]
    assert high - low > plain_high - plain_low, "less is known of each than of both together"


def test_from_few_votes_nothing_is_said_of_style() -> None:
    votes = drawn(80, {"x": 0.0, "y": 0.3}, (1.0, 0.0), seed=3)
    assert at_equal_style(standings(plain(votes)), votes) is None


@pytest.mark.parametrize(
    ("first", "second", "lean"),
    [
        ("", "", (0, 0)),
        ("same", "same", (0, 0)),
        ("x" * 200, "x" * 100, (2, 0)),
        ("", "anything", (-5, 0)),
        ("# Title\n- one\n- two\n**bold**", "plain words of some length, say", (0, 5)),
        ("- one\n- two", "* one\n* two", (0, 0)),
    ],
)
def test_what_leans_where(first: str, second: str, lean: tuple[int, int]) -> None:
    assert lean_of(first, second) == lean
    assert lean_of(second, first) == tuple(-each for each in lean)
