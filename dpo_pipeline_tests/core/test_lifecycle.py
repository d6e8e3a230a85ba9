"""The table of a version's life, and the sets derived from it."""

import itertools

from dpo_pipeline.core.lifecycle import ACCEPTED, CLOSED, RECORDED, RETRIED, TRANSITIONS, UNFINISHED, Status, follows

S = Status


def test_every_status_has_its_place_in_the_table() -> None:
    assert set(TRANSITIONS) == set(Status)


def test_the_sets_are_what_they_say() -> None:
    assert {S.GIVEN_UP, S.ROLLED_BACK} == CLOSED
    assert {S.REGISTERED, S.ROLLING_OUT, S.CHAMPION, S.RETIRED} == ACCEPTED
    assert ACCEPTED | {S.ROLLED_BACK} == RECORDED
    assert {S.NOT_IMPROVED, S.INCONCLUSIVE, S.DIVERGED} == RETRIED
    assert not UNFINISHED & (CLOSED | RETRIED)


def test_what_was_registered_is_never_trained_again() -> None:
    assert not any(follows(before, after) for before in RECORDED for after in set(Status) - RECORDED)


def test_the_whole_way_of_a_version() -> None:
    way = [S.TRAINING, S.TRAINED, S.IMPROVED, S.REGISTERED, S.ROLLING_OUT, S.CHAMPION, S.RETIRED, S.CHAMPION]
    assert all(follows(before, after) for before, after in itertools.pairwise(way))
    assert not follows(S.TRAINING, S.REGISTERED), "no step is left out"
    assert follows(S.CHAMPION, S.CHAMPION), "to stay is no change"
