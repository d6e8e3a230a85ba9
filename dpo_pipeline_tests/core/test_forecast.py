"""What an audience can expect: more people are surer, and what is out of reach is said."""

from itertools import pairwise

import pytest

from dpo_pipeline.core.exposure import Audience
from dpo_pipeline.core.forecast import forecast, seen_satisfaction_loss, votes_needed
from dpo_pipeline.settings import RolloutPolicy

POLICY = RolloutPolicy()
EIGHT = Audience(people=8, conversations=280, requests=1120, ratings=336)
THOUSAND = Audience(people=1000, conversations=7000, requests=28_000, ratings=8400)


@pytest.mark.slow
def test_a_team_of_eight_is_told_how_long_and_how_sure() -> None:
    found = forecast(POLICY, EIGHT, votes_a_day=25)
    assert (found.unit, found.reading, found.shadow_share) == ("request", "panel", 1.0)
    assert found.votes_needed["75%"] == POLICY.min_ab_votes
    assert 60 <= (found.votes_needed["65%"] or 0) <= 160 < (found.votes_needed["60%"] or 0) <= 300
    ends = [stage.ends_after_h or 0.0 for stage in found.stages]
    assert [late - early for early, late in pairwise(ends)] == [24, 48, 72]
    assert any("win rate of 55%" in advice for advice in found.advice)


@pytest.mark.slow
def test_more_people_see_smaller_harm() -> None:
    few, many = (forecast(POLICY, audience, 100) for audience in (EIGHT, THOUSAND))
    assert few.seen_error_rate and many.seen_error_rate and many.seen_error_rate < few.seen_error_rate
    assert few.seen_satisfaction_loss and many.seen_satisfaction_loss
    assert many.seen_satisfaction_loss < few.seen_satisfaction_loss


def test_no_audience_and_no_votes_promise_nothing() -> None:
    found = forecast(POLICY, Audience(), votes_a_day=0)
    assert found.stages[0].ends_after_h is None and found.days_of_voting["75%"] is None
    assert found.seen_satisfaction_loss is None and found.seen_error_rate is None
    assert seen_satisfaction_loss(1, POLICY) is None
    assert votes_needed(0.5, 8, POLICY) is None
