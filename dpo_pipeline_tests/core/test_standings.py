"""What the leaderboard may say of the votes, and what it must not."""

from collections import Counter

from dpo_pipeline.core.leaderboard import PairCount, between_two, count_battles, standings


def test_pairs_are_counted_whichever_way_round_they_met() -> None:
    battles = {
        ("v1.0", "v1.1", "model_b"): 3,
        ("v1.1", "v1.0", "model_a"): 4,
        ("v1.1", "v1.0", "model_b"): 1,
        ("v1.0", "v1.1", "tie"): 2,
        ("v1.1", "v1.0", "both_bad"): 5,
        ("v1.0", "v1.0", "model_a"): 9,
    }
    assert count_battles(between_two(battles)) == [PairCount("v1.0", "v1.1", wins_a=1, wins_b=7, ties=2, both_bad=5)]
    found = standings(battles)
    assert (found.votes, found.against_itself) == (15, 9)
    assert found.board is not None and list(found.board.strengths) == ["v1.1", "v1.0"]
    assert found.matrix is not None and found.matrix.names == ("v1.1", "v1.0")


def test_no_votes_and_too_few_give_a_reason_instead_of_a_number() -> None:
    nothing, itself = standings({}), standings({("v1.0", "v1.0", "tie"): 50})
    few = standings({("v1.0", "v1.1", "model_a"): 9, ("v1.0", "v1.1", "both_bad"): 99})
    assert nothing.board is itself.board is few.board is None
    assert nothing.matrix is None and "No votes" in itself.trouble
    assert "Too few votes" in few.trouble and "at most 9" in few.trouble and few.few == ("v1.0", "v1.1")
    assert few.matrix is not None


def test_groups_that_never_met_are_named() -> None:
    found = standings({("v1.0", "v1.1", "model_a"): 20, ("v1.2", "v1.3", "tie"): 20})
    assert found.board is None and "v1.0, v1.1 | v1.2, v1.3" in found.trouble


def test_a_version_that_won_every_vote_still_gets_a_finite_score() -> None:
    found = standings(Counter({("v1.0", "v1.1", "model_b"): 20}))
    assert found.board is not None
    assert 1000 < found.board.strengths["v1.1"].elo[0] < 3000
