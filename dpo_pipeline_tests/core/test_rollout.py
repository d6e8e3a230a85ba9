"""The user's schedule and rules, row by row; no data is never good news."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpo_pipeline.core.rollout import (
    STAGES,
    Evidence,
    Metrics,
    decide,
    gets_challenger,
    next_stage,
    should_rollback,
    traffic_of,
)
from dpo_pipeline.core.winrate import win_rate
from dpo_pipeline.settings import RolloutPolicy

POLICY = RolloutPolicy()
GOOD = Metrics(requests=500, errors=2, p99_ms=400, ratings=100, satisfaction=4.2)
BASE = Metrics(requests=5000, errors=20, p99_ms=400, ratings=1000, satisfaction=4.0)
CANARY = Evidence(stage="canary", hours=25, ab=win_rate([]), new=GOOD, baseline=BASE)


def test_the_schedule_is_the_users() -> None:
    assert [(stage, traffic_of(stage, POLICY)) for stage in STAGES] == [
        ("staging", 0.0),
        ("canary", 0.05),
        ("small", 0.2),
        ("half", 0.5),
        ("full", 1.0),
    ]
    assert next_stage("half") == "full" and next_stage("full") is None


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"errors": 4}, "error rate 0.80% > 1.5 × 0.40%"),
        ({"p99_ms": 2001.0}, "p99 latency 2001 ms > 2000 ms"),
        ({"satisfaction": 3.5}, "satisfaction 3.50 < 0.9 × 4.00"),
        ({"crashes": 6}, "crash rate 1.20% > 1%"),
    ],
)
def test_should_rollback_condition_by_condition(change: dict[str, object], told: str) -> None:
    assert should_rollback(GOOD, BASE, POLICY) == []
    assert should_rollback(replace(GOOD, **change), BASE, POLICY) == [told]


@pytest.mark.parametrize(("stage", "hours", "limit"), [("canary", 24, 0.05), ("small", 48, 0.03), ("half", 72, 0.02)])
def test_the_stage_table(stage: str, hours: float, limit: float) -> None:
    many_errors = replace(BASE, errors=int(limit * 5000))  # so that only the stage's own limit can speak
    at_limit = replace(GOOD, errors=int(limit * 500))
    seen = Evidence(stage, hours + 1, win_rate([]), at_limit, many_errors)
    assert decide(seen, POLICY).decision == "promote"
    assert decide(replace(seen, hours=hours - 1), POLICY).decision == "hold"
    worse = replace(seen, new=replace(at_limit, errors=int(limit * 500) + 1))
    assert decide(worse, POLICY).decision == "rollback"
    unhappy = replace(seen, new=replace(at_limit, satisfaction=3.95))
    assert decide(unhappy, POLICY).decision == "rollback"


def test_no_data_holds_and_then_times_out_into_a_rollback() -> None:
    silent = replace(CANARY, new=Metrics())
    assert decide(silent, POLICY).decision == "hold"
    late = decide(replace(silent, hours=241), POLICY)
    assert late.decision == "rollback" and "still undecided" in late.reasons[0]


def test_staging_waits_for_the_ab_test() -> None:
    staging = Evidence("staging", 1, win_rate(["win"] * 49))
    assert decide(staging, POLICY).decision == "hold"
    assert decide(replace(staging, ab=win_rate(["win"] * 60 + ["loss"] * 15)), POLICY).decision == "promote"
    assert decide(replace(staging, ab=win_rate(["win"] * 15 + ["loss"] * 60)), POLICY).decision == "rollback"
    assert decide(replace(staging, ab=win_rate(["win", "loss"] * 40)), POLICY).decision == "hold"
    assert decide(replace(staging, hours=400), POLICY).decision == "rollback"


def test_full_traffic_is_watched() -> None:
    full = replace(CANARY, stage="full")
    assert decide(full, POLICY).decision == "hold"
    assert decide(replace(full, new=replace(GOOD, errors=11)), POLICY).decision == "rollback"


def test_durations_can_be_compressed() -> None:
    fast = RolloutPolicy(duration_scale=1e-4)
    assert decide(replace(CANARY, hours=0.0025), fast).decision == "promote"
    assert decide(replace(CANARY, hours=0.0023), fast).decision == "hold"


@given(st.text(min_size=1), st.floats(0, 1), st.floats(0, 1))
def test_more_traffic_never_takes_the_challenger_from_a_person(user: str, one: float, other: float) -> None:
    low, high = sorted((one, other))
    assert gets_challenger(user, "v1.1", low) <= gets_challenger(user, "v1.1", high)


def test_the_share_of_people_is_the_traffic() -> None:
    share = sum(gets_challenger(f"user {i}", "v1.1", 0.2) for i in range(20_000)) / 20_000
    assert abs(share - 0.2) < 0.01
