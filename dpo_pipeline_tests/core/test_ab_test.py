"""Two readings of the same votes: by hand, and how often they decide rightly and wrongly."""

import numpy as np
import pytest

from dpo_pipeline.core.ab_test import AbTest, choose_reading, read_votes
from dpo_pipeline.core.exposure import NO_AUDIENCE, Audience
from dpo_pipeline.core.winrate import Outcome
from dpo_pipeline.settings import RolloutPolicy

POLICY = RolloutPolicy()
Votes = list[tuple[str, Outcome]]


def read(votes: Votes) -> AbTest:
    return read_votes(votes, POLICY, NO_AUDIENCE)


def won(test: AbTest) -> bool:
    return test.deciding.count >= POLICY.min_ab_votes and test.deciding.low > 0.5 and test.without.low > 0.5


def test_few_voters_are_a_panel_and_many_a_sample() -> None:
    assert choose_reading(8, POLICY, Audience(people=8))[0] == "panel"
    assert choose_reading(59, POLICY, Audience(people=5000))[0] == "panel"
    assert choose_reading(150, POLICY, Audience(people=200))[0] == "panel"
    assert choose_reading(60, POLICY, Audience(people=5000))[0] == "population"
    assert choose_reading(8, RolloutPolicy(reading="population"), NO_AUDIENCE)[0] == "population"


def test_both_readings_are_kept_and_say_what_they_are() -> None:
    votes: Votes = [(f"p{n % 8}", "win" if n % 4 else "loss") for n in range(144)]
    test = read(votes)
    assert test.panel.rate == test.population.rate == 0.75
    assert test.panel.count == 144 and test.population.people == 8
    assert test.panel.low > 0.5 > test.population.low, "eight people do not speak for others"
    assert str(test).endswith("by 8 people (panel)"), str(test)
    assert read([]).panel.rate is None


def test_one_person_counts_at_most_three_times_as_often_as_the_middle_one() -> None:
    votes: Votes = [("loud", "win")] * 500 + [(f"p{n % 7}", "loss") for n in range(70)]
    assert read(votes).panel.wins == 30


def test_a_flood_by_one_name_decides_nothing() -> None:
    votes: Votes = [("flood", "win")] * 100 + [(f"p{i}", "win" if i % 2 else "loss") for i in range(60)]
    assert not won(read(votes))


@pytest.mark.slow
@pytest.mark.parametrize("people", [5, 8, 40])
@pytest.mark.parametrize("loud", [False, True])
def test_a_version_that_nobody_prefers_seldom_wins(people: int, loud: bool) -> None:
    """200 tests of 350 votes, looked at after every tenth; loud: one votes for it always and five times as often."""
    draw = np.random.default_rng(people)
    weights = np.ones(people)
    weights[0] = 5.0 if loud else 1.0
    false = 0
    for _ in range(200):
        voters = draw.choice(people, 350, p=weights / weights.sum())
        wins = (draw.random(350) < 0.5) | (loud & (voters == 0))
        votes: Votes = [(f"p{v}", "win" if w else "loss") for v, w in zip(voters, wins, strict=True)]
        false += any(won(read(votes[:n])) for n in range(50, 351, 10))
    assert false / 200 <= 0.075, "5 % and two standard errors"


def test_a_team_of_eight_finds_a_clearly_better_version_in_days() -> None:
    """75 % of 25 votes a day: decided within a week in nearly all of 100 tests."""
    draw = np.random.default_rng(1)
    decided = 0
    for _ in range(100):
        voters, wins = draw.integers(0, 8, 175), draw.random(175) < 0.75
        votes: Votes = [(f"p{v}", "win" if w else "loss") for v, w in zip(voters, wins, strict=True)]
        decided += any(won(read(votes[:n])) for n in range(50, 176, 25))
    assert decided >= 95
