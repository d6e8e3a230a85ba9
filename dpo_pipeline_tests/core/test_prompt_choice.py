"""Questions of the kinds that are known least are drawn more often, and by how much is told."""

import random

import pytest

from dpo_pipeline.core.matchmaking import PairTally, reweighted_rate
from dpo_pipeline.core.prompt_choice import FEWEST, MOST_KINDS, kinds, ratios

COOKING = [f"How long does {food} take to {done}?" for food in ("rice", "pasta", "an egg") for done in ("cook", "boil")]
CODE = [
    f"Why does my {it} function return {what}?" for it in ("Python", "Rust") for what in ("None", "zero", "nothing")
]
TRAVEL = [f"Which train goes from {a} to {b}?" for a in ("Paris", "Rome", "Bern") for b in ("Berlin", "Madrid", "Oslo")]


@pytest.mark.slow
def test_questions_with_much_in_common_are_of_one_kind() -> None:
    found = kinds([*COOKING, *CODE, *TRAVEL])
    groups = found[:6], found[6:12], found[12:]
    assert all(len(set(group)) == 1 for group in groups) and len({group[0] for group in groups}) == 3
    assert kinds([*COOKING, *CODE, *TRAVEL]) == found, "the same for the same questions"


def test_of_few_questions_there_is_one_kind_and_of_many_no_more_than_votes_can_be_told_apart_by() -> None:
    assert kinds(COOKING) == [0] * len(COOKING) and kinds([]) == [] and len(COOKING) < FEWEST
    draw = random.Random(0)
    many = [" ".join(draw.choices(("cats", "dogs", "owls", "trains", "rice", "loops"), k=6)) for _ in range(2_000)]
    assert len(set(kinds(many))) == MOST_KINDS


def test_the_kind_that_is_known_least_is_drawn_most() -> None:
    kind_of, tallies = [0, 0, 0, 1, 2], {0: PairTally(40, 20.0), 1: PairTally(40, 39.0), 2: PairTally(4, 2.0)}
    undecided, decided, hardly_known = (ratios(kind_of, tallies, 0.8)[place] for place in (0, 3, 4))
    assert hardly_known > undecided * 3 > 0 and hardly_known > decided
    assert sum(ratios(kind_of, tallies, 0.8)) / 5 == pytest.approx(1)
    assert min(ratios(kind_of, tallies, 0.8)) > 0.2 and ratios(kind_of, tallies, 0) == [1] * 5
    assert ratios([], {}, 0.8) == []


def test_votes_are_weighed_back_to_what_an_even_draw_would_have_found() -> None:
    """The newer version wins 9 of 10 on questions of one kind and 3 of 10 on those of the other, half each: 0.6."""
    draw = random.Random(1)
    drawn_more = ratios([0, 1], {0: PairTally(1_000, 900.0), 1: PairTally(10, 3.0)}, 0.9)
    votes = []
    for _ in range(20_000):
        kind = draw.choices((0, 1), drawn_more)[0]
        votes.append((float(draw.random() < (0.9, 0.3)[kind]), drawn_more[kind]))
    assert sum(won for won, _ in votes) / len(votes) < 0.5, "without it, what is known least would count most"
    found = reweighted_rate(votes)
    assert found.rate == pytest.approx(0.6, abs=0.03) and found.effective < len(votes)
