"""Who meets whom: what is due comes first, the rest where a vote tells most, and every pair has its probability."""

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpo_pipeline.core.matchmaking import Match, PairTally, against_all, matches, pick, reweighted_rate

NAMES = ["v1.0", "v1.1", "v1.2", "v1.3", "v1.4"]


@given(
    st.integers(1, 5),
    st.booleans(),
    st.dictionaries(st.sampled_from(NAMES), st.integers(0, 500)),
    st.just(0.0) | st.floats(0.001, 0.5),
)
def test_propensities_are_probabilities_and_every_pair_has_one(
    count: int, with_challenger: bool, counts: dict[str, int], share: float
) -> None:
    served = NAMES[:count]
    challenger = served[-1] if with_challenger and count > 1 else None
    tallies = {frozenset(("v1.0", name)): PairTally(n, n / 3) for name, n in counts.items()}
    offered = matches("v1.0", challenger, served, tallies, share)
    assert sum(match.propensity for match in offered) == pytest.approx(1.0)
    if share and len(offered) > 1:
        assert all(match.propensity > 0 for match in offered)
    assert {offered[0].first, offered[0].second} == {challenger or "v1.0", "v1.0"}


def test_the_pair_that_is_due_gets_what_the_others_leave() -> None:
    assert matches("v1.0", None, ["v1.0"], {}, 0.1) == [Match("v1.0", "v1.0", 1.0)]
    assert matches("v1.0", "v1.1", ["v1.0", "v1.1"], {}, 0.1) == [Match("v1.1", "v1.0", 1.0)]
    three = matches("v1.1", "v1.2", ["v1.0", "v1.1", "v1.2"], {}, 0.1)
    assert three[0] == Match("v1.2", "v1.1", 0.9)
    assert {match.propensity for match in three[1:]} == {0.05}
    decided = matches("v1.1", "v1.2", ["v1.1", "v1.2"], {}, 0.1, ab_test=False)
    assert decided[0] == Match("v1.2", "v1.2", 0.9), "the next version learns from the newest one's own answers"
    assert [(match.first, match.second) for match in decided[1:]] == [("v1.1", "v1.2")]


def test_among_many_the_pair_that_is_known_least_comes_most() -> None:
    known = {frozenset(pair): PairTally(400, 200) for pair in (("v1.0", "v1.1"), ("v1.0", "v1.2"), ("v1.1", "v1.2"))}
    offered = matches("v1.3", None, NAMES[:4], known, 0.2)
    share = {frozenset((match.first, match.second)): match.propensity for match in offered}
    fresh, old = share[frozenset(("v1.0", "v1.3"))], share[frozenset(("v1.0", "v1.1"))]
    assert fresh > 10 * old and old >= 0.2 * 0.1 / 6


def test_pairs_are_picked_as_often_as_they_say() -> None:
    offered = matches("v1.1", "v1.2", NAMES[:3], {}, 0.3)
    draw = random.Random(1)
    found = Counter(pick(offered, draw.random()) for _ in range(20_000))
    for match in offered:
        assert found[match] / 20_000 == pytest.approx(match.propensity, abs=0.01)
    assert pick(offered, 1.0) == offered[-1]


def test_weights_undo_that_one_opponent_was_met_more_often() -> None:
    """Wins 80 % against the one it meets nine times in ten, 20 % against the other: 50 % against both alike."""
    draw = random.Random(3)
    votes, plain = [], 0.0
    for _ in range(20_000):
        often = draw.random() < 0.9
        won = float(draw.random() < (0.8 if often else 0.2))
        plain += won
        votes.append((won, 0.9 if often else 0.1))
    found = reweighted_rate(votes)
    assert plain / 20_000 > 0.72
    assert found.rate == pytest.approx(0.5, abs=0.02) and found.std_error and found.std_error < 0.01
    assert found.effective < 20_000
    assert reweighted_rate([]).rate is None and reweighted_rate([(1.0, 0.5)]).std_error is None


def test_every_opponent_counts_alike_whatever_propensities_were_when() -> None:
    """80 % against v1.0, first the only pair and later rarely shown; 20 % against v1.2, shown often since."""

    def votes(count: int, wins: int, propensity: float) -> list[tuple[float, float]]:
        return [(float(number < wins), propensity) for number in range(count)]

    found = against_all({"v1.0": votes(3000, 2400, 1.0) + votes(50, 40, 0.05), "v1.2": votes(900, 180, 0.9)})
    assert found.rate == pytest.approx(0.5, abs=0.01) and found.std_error and found.std_error < 0.03
    assert against_all({"v1.0": votes(2, 2, 1.0)}).std_error is None, "two votes tell nothing of their spread"
    assert against_all({}).rate is None
