"""Bradley-Terry by hand, against choix, its invariances, and how often its intervals hold the truth."""

import math
import time

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from dpo_pipeline.core.leaderboard import (
    Battle,
    Leaderboard,
    PairCount,
    bootstrap_intervals,
    bradley_terry,
    count_battles,
    percentile_interval,
    win_matrix,
)
from dpo_pipeline.errors import DisconnectedModels

NAMES = ["v1.0", "v1.1", "v1.2", "v1.3"]
CELLS = st.lists(st.integers(0, 9), min_size=24, max_size=24)


def test_two_models_by_hand() -> None:
    """30 of 40: log-odds ln 3, half to each side; the variance of a log-odds is 1 / (n p q)."""
    board = bradley_terry([("new", "old", "model_a")] * 30 + [("old", "new", "model_a")] * 10)
    assert list(board.strengths) == ["new", "old"]
    new = board.strengths["new"]
    assert new.log_strength == pytest.approx(math.log(3) / 2)
    assert new.std_error == pytest.approx(math.sqrt(1 / (40 * 0.75 * 0.25)) / 2)
    reach = 1.959964 * new.std_error
    assert (new.low, new.high) == pytest.approx((new.log_strength - reach, new.log_strength + reach), abs=1e-6)
    assert board.mean_nll == pytest.approx(-0.75 * math.log(0.75) - 0.25 * math.log(0.25))
    assert (board.votes, new.votes, new.rank, board.strengths["old"].rank) == (40, 40, 1, 2)


def test_a_chain_by_hand() -> None:
    """On a tree the strengths of neighbours differ by the log-odds of their own battles: ln 3 and ln 2."""
    board = bradley_terry([PairCount("a", "b", 6, 2), PairCount("c", "b", 3, 6)])
    theta = {name: found.log_strength for name, found in board.strengths.items()}
    assert theta["a"] - theta["b"] == pytest.approx(math.log(3))
    assert theta["b"] - theta["c"] == pytest.approx(math.log(2))
    assert sum(theta.values()) == pytest.approx(0, abs=1e-12)


def test_the_same_strengths_as_choix() -> None:
    """choix.opt_pairwise(alpha=0) on these 41 battles."""
    board = bradley_terry(
        [
            PairCount("0", "1", 7, 3),
            PairCount("1", "2", 6, 5),
            PairCount("2", "3", 4, 4),
            PairCount("3", "0", 2, 9),
            PairCount("0", "2", 5, 1),
        ]
    )
    expected = [0.9511985146050519, -0.0805529949631774, -0.40054793748369755, -0.4700975821581777]
    assert [board.strengths[str(i)].log_strength for i in range(4)] == pytest.approx(expected, abs=1e-5)


def test_a_tie_is_half_a_win_and_narrows_the_interval() -> None:
    decided = bradley_terry([PairCount("a", "b", 15, 5), PairCount("a", "b", 5, 15)])
    tied = bradley_terry([PairCount("a", "b", 10, 10, ties=20)])
    assert decided.strengths["a"].log_strength == tied.strengths["a"].log_strength == pytest.approx(0)
    assert tied.strengths["a"].std_error == pytest.approx(decided.strengths["a"].std_error / math.sqrt(2))


def test_ties_and_both_bad_go_where_the_option_says() -> None:
    counts = [PairCount("a", "b", 6, 2, ties=4, both_bad=8)]
    assert _gap(bradley_terry(counts)) == pytest.approx(math.log(8 / 4))
    assert _gap(bradley_terry(counts, ties="drop")) == pytest.approx(math.log(6 / 2))
    assert _gap(bradley_terry(counts, both_bad="half")) == pytest.approx(math.log(12 / 8))
    plain = bradley_terry(counts)
    assert (plain.votes, plain.left_out) == (12, 8)


def test_models_that_never_met_are_named() -> None:
    battles: list[Battle] = [("a", "b", "tie"), ("b", "c", "tie"), ("x", "y", "tie"), ("c", "x", "both_bad")]
    with pytest.raises(DisconnectedModels, match=r"2 groups .* a, b, c \| x, y") as caught:
        bradley_terry(battles)
    assert caught.value.groups == (("a", "b", "c"), ("x", "y"))
    assert bradley_terry(battles, both_bad="half").votes == 4


def test_one_that_won_everything_is_named_and_a_prior_keeps_it_finite() -> None:
    battles: list[Battle] = [("a", "b", "model_a"), ("b", "a", "model_a"), ("c", "a", "model_a"), ("c", "b", "model_a")]
    with pytest.raises(DisconnectedModels, match="never lost") as caught:
        bradley_terry(battles)
    assert set(caught.value.groups) == {("a", "b"), ("c",)}
    board = bradley_terry(battles, prior_votes=0.5)
    assert next(iter(board.strengths)) == "c"
    assert board.strengths["a"].log_strength == pytest.approx(board.strengths["b"].log_strength)
    assert board.votes == 4


def test_no_votes_are_an_empty_board() -> None:
    assert bradley_terry([]) == Leaderboard({}, 0, 0, None)
    assert win_matrix([]).names == () and bootstrap_intervals([]) == {}


@pytest.mark.parametrize(
    "wrong", [("a", "b", "model_c"), ("a", "a", "tie"), PairCount("a", "a"), PairCount("a", "b", wins_a=-1)]
)
def test_nonsense_is_refused(wrong: Battle | PairCount) -> None:
    with pytest.raises(ValueError, match="required"):
        bradley_terry([wrong])
    with pytest.raises(ValueError, match="prior_votes"):
        bradley_terry([], prior_votes=-1)


@pytest.mark.slow
@given(CELLS)
def test_expected_wins_are_the_wins_that_were(cells: list[int]) -> None:
    """The equations of maximum likelihood, and strengths that do not hang on names, sides or order."""
    counts = _counts(cells)
    try:
        board = bradley_terry(counts)
    except DisconnectedModels as error:
        assert sorted(name for group in error.groups for name in group) == NAMES
        return
    theta = {name: found.log_strength for name, found in board.strengths.items()}
    assert sum(theta.values()) == pytest.approx(0, abs=1e-9)
    for name in NAMES:
        excess = 0.0
        for pair in counts:
            if name in (pair.model_a, pair.model_b):
                won, other = (pair.wins_a, pair.model_b) if name == pair.model_a else (pair.wins_b, pair.model_a)
                met = pair.wins_a + pair.wins_b + pair.ties
                excess += won + pair.ties / 2 - met / (1 + math.exp(theta[other] - theta[name]))
        assert excess == pytest.approx(0, abs=1e-6)
    turned = [PairCount(p.model_b, p.model_a, p.wins_b, p.wins_a, p.ties, p.both_bad) for p in reversed(counts)]
    again = bradley_terry(turned)
    assert {n: s.log_strength for n, s in again.strengths.items()} == pytest.approx(theta, abs=1e-9)
    assert again.mean_nll == pytest.approx(board.mean_nll)


@pytest.mark.slow
@given(CELLS)
def test_counting_battles_loses_none(cells: list[int]) -> None:
    counts = _counts(cells)
    battles = _battles(counts)
    assume(battles)
    counted = count_battles(iter(battles))
    assert sum(p.wins_a + p.wins_b + p.ties + p.both_bad for p in counted) == len(battles)
    assert win_matrix(counted, names=NAMES[:1]) == win_matrix(battles, names=NAMES[:1])
    assert all(pair.model_a < pair.model_b for pair in counted)


def test_the_win_matrix_of_a_page() -> None:
    matrix = win_matrix(
        [PairCount("a", "b", 6, 2, 2, 5), PairCount("b", "c", 1, 0)], names=["c", "b", "a"], both_bad="drop"
    )
    assert matrix.names == ("c", "b", "a")
    assert matrix.rates == ((None, 0.0, None), (1.0, None, 0.3), (None, 0.7, None))
    assert matrix.votes == ((0, 1, 0), (1, 0, 10), (0, 10, 0))
    with pytest.raises(ValueError, match="No battle of z"):
        win_matrix([PairCount("a", "b", 1, 1)], names=["a", "z"])


def test_the_display_scale_is_that_of_chess() -> None:
    board = bradley_terry([PairCount("a", "b", 10, 1)])
    (high, *_), (low, *_) = board.strengths["a"].elo, board.strengths["b"].elo
    assert high - low == pytest.approx(400)
    assert high + low == pytest.approx(2000)


@pytest.mark.slow
def test_intervals_hold_the_truth_and_agree_with_the_bootstrap() -> None:
    """Four versions, 60 votes a pair with a quarter of ties: 95 % intervals over 400 tournaments."""
    truth = np.array([-0.5, -0.1, 0.1, 0.5])
    draw = np.random.default_rng(17)
    held, first = [], None
    for _ in range(400):
        counts = _tournament(draw, truth, votes=60)
        board = bradley_terry(counts)
        first = first or (counts, board)
        found = [board.strengths[name] for name in NAMES]
        held.append([s.low <= true <= s.high for s, true in zip(found, truth, strict=True)])
    print(f"Bradley-Terry intervals: coverage {np.mean(held):.1%}")
    assert 0.93 <= np.mean(held) <= 0.97
    assert first is not None
    drawn = bootstrap_intervals(first[0], replicates=800)
    for name, strength in first[1].strengths.items():
        low, high = drawn[name]
        assert high - low == pytest.approx(strength.high - strength.low, rel=0.12)


def test_equal_versions_are_ranked_first_together() -> None:
    """A/A over four versions: seldom is one of them ranked below another, at one look, at level 0.001."""
    draw = np.random.default_rng(19)
    false = 0
    for _ in range(300):
        board = bradley_terry(_tournament(draw, np.zeros(4), votes=50), alpha=0.001)
        false += any(strength.rank > 1 for strength in board.strengths.values())
    assert false / 300 <= 0.02


@pytest.mark.slow
def test_a_million_battles_are_a_matter_of_seconds() -> None:
    draw = np.random.default_rng(23)
    models = np.array([f"m{i:03}" for i in range(100)])
    pairs = draw.integers(0, 100, size=(1_000_000, 2))
    pairs = pairs[pairs[:, 0] != pairs[:, 1]]
    winners = draw.choice(["model_a", "model_b", "tie", "both_bad"], size=len(pairs))
    battles = list(zip(models[pairs[:, 0]].tolist(), models[pairs[:, 1]].tolist(), winners.tolist(), strict=True))
    started = time.process_time()
    counted = count_battles(battles)
    counting_s, started = time.process_time() - started, time.process_time()
    bradley_terry(counted)
    print(f"{len(battles)} battles: counted in {counting_s:.2f} s, fitted in {time.process_time() - started:.3f} s")
    assert counting_s < 10
    assert time.process_time() - started < 2


def test_percentiles_are_interpolated() -> None:
    assert percentile_interval([float(i) for i in range(101)], alpha=0.05) == (2.5, 97.5)


def _gap(board: Leaderboard) -> float:
    return board.strengths["a"].log_strength - board.strengths["b"].log_strength


def _counts(cells: list[int]) -> list[PairCount]:
    pairs = [(a, b) for i, a in enumerate(NAMES) for b in NAMES[i + 1 :]]
    return [PairCount(*names, *cells[4 * i : 4 * i + 4]) for i, names in enumerate(pairs)]


def _battles(counts: list[PairCount]) -> list[Battle]:
    battles: list[Battle] = []
    for pair in counts:
        battles += [(pair.model_a, pair.model_b, "model_a")] * pair.wins_a
        battles += [(pair.model_b, pair.model_a, "model_a")] * pair.wins_b
        battles += [(pair.model_b, pair.model_a, "tie")] * pair.ties
        battles += [(pair.model_a, pair.model_b, "both_bad")] * pair.both_bad
    return battles


def _tournament(draw: np.random.Generator, truth: NDArray[np.float64], votes: int) -> list[PairCount]:
    """Each pair meets `votes` times; ties take as much from either side, so that a half for each keeps the mean."""
    counts = []
    for i, first in enumerate(NAMES):
        for j in range(i + 1, len(NAMES)):
            chance = 1 / (1 + math.exp(truth[j] - truth[i]))
            tied = 0.5 * min(chance, 1 - chance)
            wins, losses, ties = draw.multinomial(votes, [chance - tied / 2, 1 - chance - tied / 2, tied]).tolist()
            counts.append(PairCount(first, NAMES[j], wins, losses, ties))
    return counts
