"""Who vouches for somebody, and a crowd for whom nobody does."""

import pytest

from dpo_pipeline.core.identity import BURST_PEOPLE, Uncounted, burst, checked_name, identity_of, is_proven, may
from dpo_pipeline.core.winrate import Outcome
from dpo_pipeline.request_errors import InvalidRequest
from dpo_pipeline.settings import Role


@pytest.mark.parametrize(
    ("vouched", "at_machine", "known_h", "crowded", "identity", "counts"),
    [
        (True, False, 0, False, "named", True),
        (True, False, 0, True, "named", True),
        (False, True, 24, False, "local", True),
        (False, True, 23.9, False, "new", False),
        (False, True, 99, True, "anonymous", False),
        (False, False, 99, False, "anonymous", False),
    ],
)
def test_what_counts_is_what_somebody_vouches_for(
    vouched: bool, at_machine: bool, known_h: float, crowded: bool, identity: str, counts: bool
) -> None:
    assert identity_of(vouched, at_machine, known_h, 24, crowded) == identity
    assert is_proven(identity) == counts


def crowd(people: int, outcome: Outcome, votes: int = 2, name: str = "p") -> list[tuple[str, Outcome]]:
    return [(f"{name}{number}", outcome) for number in range(people) for _ in range(votes)]


def test_many_strangers_of_one_mind_are_a_burst() -> None:
    assert burst([]) == ""
    assert burst(crowd(BURST_PEOPLE - 1, "win", votes=50)) == "", "few people, however much they vote"
    assert f"{BURST_PEOPLE} of {BURST_PEOPLE} people whom nobody vouches for voted for" in burst(
        crowd(BURST_PEOPLE, "win")
    )
    assert "voted against the new version" in burst(crowd(9, "loss") + crowd(1, "win", name="q"))
    assert burst(crowd(8, "win") + crowd(2, "loss", name="q")) == "", "two of ten see it otherwise"
    assert burst(crowd(20, "tie")) == ""


def test_which_votes_do_not_count_is_said() -> None:
    assert str(Uncounted(0, 0)) == ""
    assert str(Uncounted(3, 0)) == "3 votes do not count: 3 of people whom nobody vouches for, or who are new here"
    assert str(Uncounted(1, 2)).startswith("3 votes do not count: 1 of people") and "chose the versions" in str(
        Uncounted(1, 2)
    )
    assert str(Uncounted(0, 0, 3, 1)) == "3 votes do not count: 3 taken back as slips (1 of them for the new version)"


@pytest.mark.parametrize(
    ("role", "needed", "allowed"),
    [
        ("viewer", "rater", False),
        ("rater", "rater", True),
        ("service", "rater", True),
        ("service", "reviewer", False),
        ("reviewer", "operator", False),
        ("operator", "reviewer", True),
    ],
)
def test_each_role_may_do_what_those_before_it_may(role: Role, needed: Role, allowed: bool) -> None:
    assert may(role, needed) == allowed


def test_a_name_can_be_seen() -> None:
    assert checked_name("  Ada   Lovelace ") == "Ada Lovelace"
    for bad in ("", " \n", "a" * 101, "Ada\x1b[31m", "Ada\u200bL"):
        with pytest.raises(InvalidRequest):
            checked_name(bad)
