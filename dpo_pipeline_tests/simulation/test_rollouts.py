"""Rollouts of small teams with the real decision code: the goals of the study, at a size that a test can have."""

from typing import Any

import numpy as np
import pytest

from dpo_pipeline.settings import RolloutPolicy
from dpo_pipeline.simulation.audience import World
from dpo_pipeline.simulation.rollouts import play, shares


def of_eight(runs: int = 20, policy: RolloutPolicy | None = None, **changes: Any) -> dict[str, Any]:
    world = World(people=8, requests_a_day=160, votes_a_day=25, **changes)
    return shares([play(world, policy or RolloutPolicy(), np.random.default_rng([3, n])) for n in range(runs)])


@pytest.mark.slow
def test_an_identical_version_reaches_full_traffic_in_time() -> None:
    found = of_eight()
    assert found["reached_full"] >= 0.9 and found["rolled_back_for_harm"] <= 0.05
    assert found["days_to_full"] <= 9


def test_a_broken_version_is_out_before_anybody_meets_it() -> None:
    found = of_eight(new_errors=0.2)
    assert found["reached_full"] == 0 and found["people_who_met_an_error"] == 0


@pytest.mark.slow
def test_an_outage_of_both_blames_nobody_and_ends() -> None:
    """What is held in staging, won A/B test or not, is given up at the limit: nothing is held for ever."""
    found = of_eight(runs=5, errors=0.2, new_errors=0.2)
    assert found["rolled_back_for_harm"] == 0 and found["rolled_back"] == 1


@pytest.mark.parametrize("undecided", ["ask", "rollback"])
def test_what_is_undecided_can_be_asked_or_rolled_back(undecided: Any) -> None:
    found = of_eight(policy=RolloutPolicy(undecided=undecided, shadow_copies_a_day=0))
    assert found["asked" if undecided == "ask" else "rolled_back"] >= 0.9


@pytest.mark.slow
def test_the_same_seed_plays_the_same() -> None:
    assert of_eight(runs=3, win_rate=0.65) == of_eight(runs=3, win_rate=0.65)
