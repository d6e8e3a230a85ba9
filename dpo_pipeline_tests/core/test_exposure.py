"""Who meets a new version: units that fit the audience, drawn once and kept."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpo_pipeline.core.exposure import (
    Audience,
    RolloutPlan,
    choose_unit,
    conversation_key,
    gets_challenger,
    is_control,
    plan_rollout,
    unit_key,
)
from dpo_pipeline.settings import RolloutPolicy

POLICY = RolloutPolicy()


@pytest.mark.parametrize(
    ("people", "conversations", "unit"),
    [(400, 0, "person"), (399, 400, "conversation"), (12, 420, "conversation"), (8, 280, "request"), (0, 0, "request")],
)
def test_the_unit_fits_the_audience(people: int, conversations: int, unit: str) -> None:
    assert choose_unit(POLICY, Audience(people, conversations, 10 * conversations)) == unit


def test_shadow_copies_are_all_where_traffic_is_low_and_a_share_where_it_is_high() -> None:
    assert plan_rollout(POLICY, Audience(requests=7 * 160)).shadow_share == 1.0
    assert plan_rollout(POLICY, Audience(requests=7 * 20_000)).shadow_share == 0.05
    assert plan_rollout(RolloutPolicy(shadow_copies_a_day=0), Audience(requests=700)).shadow_share == 0.0


def test_a_plan_is_kept_as_it_was() -> None:
    plan = plan_rollout(RolloutPolicy(duration_scale=0.5), Audience(12, 420, 1680, 500))
    assert RolloutPlan.from_json(plan.to_json()) == plan


def test_a_conversation_stays_on_one_side_and_a_person_has_several() -> None:
    keys = {unit_key("conversation", "ann", conversation_key("ann", "", f"question {n}"), "r") for n in range(50)}
    sides = {gets_challenger(key, "v1.1", 0.5) for key in keys}
    assert len(keys) == 50 and sides == {True, False}
    assert conversation_key("ann", "", "Hi") == conversation_key("ann", "", "Hi") != conversation_key("bob", "", "Hi")
    assert conversation_key("ann", "visit-1", "Hi") == "visit-1"


def test_of_twelve_people_the_canary_gets_about_its_share_of_the_conversations() -> None:
    keys = [unit_key("conversation", f"p{n % 12}", f"talk {n}", "r") for n in range(4000)]
    assert sum(gets_challenger(key, "v1.1", 0.05) for key in keys) / 4000 == pytest.approx(0.05, abs=0.01)


@given(st.text(min_size=1), st.floats(0, 1), st.floats(0, 1))
def test_more_traffic_never_takes_the_challenger_from_a_unit(user: str, one: float, other: float) -> None:
    low, high = sorted((one, other))
    assert gets_challenger(user, "v1.1", low) <= gets_challenger(user, "v1.1", high)


@given(st.text(min_size=1), st.floats(0.01, 1))
def test_nobody_is_challenger_and_control(user: str, traffic: float) -> None:
    assert not (gets_challenger(user, "v1.1", traffic) and is_control(user, "v1.1", traffic))


@pytest.mark.slow
@pytest.mark.parametrize("traffic", [0.05, 0.2, 0.5])
def test_both_groups_are_as_large_as_the_traffic(traffic: float) -> None:
    users = [f"user {i}" for i in range(20_000)]
    for drawn in (gets_challenger, is_control):
        assert sum(drawn(user, "v1.1", traffic) for user in users) / 20_000 == pytest.approx(traffic, abs=0.01)
