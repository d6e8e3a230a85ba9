"""The user's schedule and rules, row by row, and beside each the evidence; no data is never good news."""

from dataclasses import replace
from typing import Any

import pytest

from dpo_pipeline.core.ab_test import read_votes
from dpo_pipeline.core.exposure import NO_AUDIENCE, Audience, RolloutPlan
from dpo_pipeline.core.rollout import (
    COMPARED,
    STAGES,
    Evidence,
    Exposure,
    VersionMetrics,
    conditions,
    decide,
    next_stage,
    should_rollback,
    traffic_of,
)
from dpo_pipeline.core.sequential_tests import Events, Opinions, Shares
from dpo_pipeline.core.winrate import Outcome
from dpo_pipeline.settings import RolloutPolicy

POLICY = RolloutPolicy()
PLAN = RolloutPlan(POLICY, "person", NO_AUDIENCE, 0.0)
GOOD = VersionMetrics(requests=5000, errors=20, p99_ms=400, ratings=1000, satisfaction=4.2)
BASE = VersionMetrics(requests=5000, errors=20, p99_ms=400, ratings=1000, satisfaction=4.0)
MET = Exposure(
    new=1000,
    control=1010,
    bad=Events(1000, 20, 1010, 20),
    errors=Shares(1000, 4.0),
    crashes=Shares(1000, 0.0),
    slow=Shares(1000, 1.0),
    control_errors=Shares(1010, 4.0),
    opinions=Opinions(600, 4.2, 1.0),
    control_opinions=Opinions(600, 4.0, 1.0),
)
CANARY = Evidence(stage="canary", hours=25, new=GOOD, baseline=BASE, met=MET)
# Twelve people: 240 requests a day.
SMALL_TEAM = Audience(people=12, conversations=420, requests=1680, ratings=500)


def met(**fields: Any) -> Exposure:
    return replace(MET, **fields)


def plan(audience: Audience = NO_AUDIENCE, **changed: Any) -> RolloutPlan:
    return RolloutPlan(RolloutPolicy(**changed), "request", audience, 1.0 if audience.requests else 0.0)


def voted(votes: list[tuple[str, Outcome]], hours: float = 1, policy: RolloutPolicy = POLICY) -> Evidence:
    return Evidence("staging", hours, read_votes(votes, policy, NO_AUDIENCE))


def test_the_schedule_is_the_users() -> None:
    assert [(stage, traffic_of(stage, POLICY)) for stage in STAGES] == [
        ("staging", 0.0),
        ("canary", 0.05),
        ("small", 0.2),
        ("half", 0.5),
        ("full", 1.0),
    ]
    assert next_stage("half") == "full" and next_stage("full") is None
    hours = [(stage, getattr(POLICY, stage).hours, getattr(POLICY, stage).max_error_rate) for stage in STAGES[1:4]]
    assert hours == [("canary", 24, 0.05), ("small", 48, 0.03), ("half", 72, 0.02)]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"errors": 31}, "error rate 0.62% > 1.5 × 0.40%"),
        ({"p99_ms": 2001.0}, "p99 latency 2001 ms > 2000 ms"),
        ({"satisfaction": 3.5}, "satisfaction 3.50 < 0.9 × 4.00"),
        ({"crashes": 51}, "crash rate 1.02% > 1%"),
    ],
)
def test_should_rollback_condition_by_condition(change: dict[str, object], told: str) -> None:
    assert should_rollback(GOOD, BASE, POLICY) == []
    assert should_rollback(replace(GOOD, **change), BASE, POLICY) == [told]


@pytest.mark.parametrize("stage", ["canary", "small", "half"])
def test_a_good_version_goes_on_when_its_time_is_over(stage: str) -> None:
    hours = getattr(POLICY, stage).hours
    seen = replace(CANARY, stage=stage, hours=hours + 1)
    found = decide(seen, PLAN)
    assert found.decision == "promote", found.reasons
    assert len(found.conditions) == 6 and not any(each.evidence or each.literal for each in found.conditions)
    early = decide(replace(seen, hours=hours - 1), PLAN)
    assert early.decision == "hold" and "lasts at least" in early.reasons[0]


@pytest.mark.parametrize(
    ("name", "metrics", "seen"),
    [
        ("error rate against the baseline", {"errors": 200}, {"bad": Events(1000, 120, 1010, 20)}),
        ("error rate of the stage", {"errors": 800}, {"errors": Shares(1000, 160.0)}),
        ("crash rate", {"crashes": 300}, {"crashes": Shares(1000, 60.0)}),
        ("p99 latency", {"p99_ms": 4000.0}, {"slow": Shares(1000, 80.0)}),
        ("satisfaction of the stage", {"satisfaction": 3.7}, {"opinions": Opinions(600, 3.4, 1.0)}),
        ("satisfaction against the baseline", {"satisfaction": 3.0}, {"opinions": Opinions(600, 3.0, 1.0)}),
    ],
)
def test_a_rule_holds_the_version_and_its_evidence_rolls_it_back(
    name: str, metrics: dict[str, Any], seen: dict[str, Any]
) -> None:
    """By the letter with few units, which prove nothing; with many, by evidence."""
    few = {field: Shares(30, 2.0) for field, value in seen.items() if isinstance(value, Shares)}
    literal = replace(CANARY, new=replace(GOOD, **metrics), met=met(**few))
    held = decide(literal, PLAN)
    judged = {each.name: each for each in held.conditions}[name]
    if name not in COMPARED:  # those are true by chance every second time of two that are alike
        assert held.decision == "hold" and judged.literal and not judged.evidence
    found = decide(replace(literal, met=met(**seen)), PLAN)
    assert found.decision == "rollback" and any(reason.startswith(name) for reason in found.reasons[1:])
    assert {each.name: each for each in found.conditions}[name].evidence
    # Early harm is harm: no minimum duration stands before it.
    assert decide(replace(literal, met=met(**seen), hours=0.01), PLAN).decision == "rollback"


@pytest.mark.parametrize(
    ("name", "change", "control", "new"),
    [
        ("error rate of the stage", {"errors": Shares(1000, 160.0)}, {"control_errors": Shares(1010, 160.0)}, "errors"),
        ("crash rate", {"crashes": Shares(1000, 60.0)}, {"control_crashes": Shares(1010, 60.0)}, "crashes"),
        ("p99 latency", {"slow": Shares(1000, 80.0)}, {"control_slow": Shares(1010, 80.0)}, "p99_ms"),
    ],
)
def test_what_the_control_meets_too_holds_and_takes_nothing_back(
    name: str, change: dict[str, Any], control: dict[str, Any], new: str
) -> None:
    """An outage of what serves both is no version's doing."""
    measured = replace(GOOD, **{new: 4000.0 if new == "p99_ms" else 800})
    outage = replace(CANARY, new=measured, baseline=measured, met=met(**change, **control))
    decision = decide(outage, PLAN)
    assert decision.decision == "hold" and name in " ".join(decision.reasons)
    rule = next(each for each in decision.conditions if each.name == name)
    assert "the control may meet as much" in rule.test_message
    assert decide(replace(outage, met=met(**change)), PLAN).decision == "rollback"


def test_point_estimates_alone_never_decide() -> None:
    """One error of one request is a rate of 100 %, and no evidence."""
    one = replace(
        CANARY,
        new=VersionMetrics(requests=1, errors=1, p99_ms=9000.0),
        met=Exposure(new=1, control=20, bad=Events(1, 1, 20, 0), errors=Shares(1, 1.0), slow=Shares(1, 1.0)),
    )
    found = decide(one, PLAN)
    assert found.decision == "hold"
    assert [each.name for each in found.conditions if each.literal] == [
        "error rate against the baseline", "error rate of the stage", "p99 latency",
    ]  # fmt: skip


def test_harm_that_is_not_ruled_out_holds_where_the_audience_is_not_known() -> None:
    few = replace(CANARY, met=met(errors=Shares(40, 0.0)))
    held = decide(few, PLAN)
    assert held.decision == "hold" and "are not ruled out: up to" in held.reasons[0]
    assert decide(few, plan(no_harm_factor=6)).decision == "promote"
    dim = met(opinions=Opinions(30, 4.2, 1.0), control_opinions=Opinions(30, 4.0, 1.0))
    assert decide(replace(CANARY, met=dim), PLAN).decision == "promote", "asked beyond 20 % of traffic only"
    small = decide(replace(CANARY, stage="small", hours=49, met=dim), PLAN)
    assert small.decision == "hold" and "satisfaction 10% lower is not ruled out" in small.reasons[0]
    won = decide(replace(CANARY, stage="small", hours=49, met=dim, ab_won=True), PLAN)
    assert won.decision == "promote", "the A/B test that it won speaks against it"


def test_what_an_audience_cannot_rule_out_is_not_waited_for_and_is_said() -> None:
    """Twelve people in canary: 12 requests a day."""
    few = replace(
        CANARY, hours=25, new=VersionMetrics(12, 0, 0, 300.0, 4, 4.0),
        met=met(new=12, control=12, bad=Events(12, 0, 12, 0), errors=Shares(12, 0.0),
        crashes=Shares(12, 0.0), slow=Shares(12, 0.0), control_errors=Shares(12, 0.0),
        opinions=Opinions(4, 4.0, 1.0), control_opinions=Opinions(4, 4.0, 1.0)),
    )  # fmt: skip
    decision = decide(few, plan(SMALL_TEAM))
    assert decision.decision == "promote" and "out of reach of this audience" in decision.reasons[0]
    assert "errors of 10% are not ruled out" in " ".join(decision.reasons)
    asked = decide(few, plan(SMALL_TEAM, undecided="ask"))
    assert asked.decision == "hold" and asked.asks and "a person decides" in asked.reasons[0]
    assert decide(few, plan(SMALL_TEAM, undecided="rollback")).decision == "rollback"
    assert decide(replace(few, hours=23), plan(SMALL_TEAM)).decision == "hold", "its hours are not over"
    assert not decide(few, plan(SMALL_TEAM)).asks


def test_what_shadow_copies_showed_counts_in_the_canary() -> None:
    quiet = Exposure(
        new=12, control=12, bad=Events(12, 0, 12, 0), errors=Shares(12, 0.0), control_errors=Shares(12, 0.0)
    )
    few = replace(CANARY, new=VersionMetrics(12, 0, 0, 300.0, 4, 4.0), met=quiet)
    shadowed = Exposure(
        new=700, control=700, bad=Events(700, 7, 700, 7), errors=Shares(700, 7.0), control_errors=Shares(700, 7.0)
    )
    decision = decide(replace(few, earlier=(shadowed,)), plan(SMALL_TEAM))
    assert decision.decision == "promote" and "harm is ruled out" in decision.reasons[0]
    # Six times the errors in the shadow copies, and the same few requests since: out at the end of the stage.
    worse = replace(shadowed, bad=Events(700, 42, 700, 7), errors=Shares(700, 42.0))
    found = decide(replace(few, earlier=(worse,)), plan(SMALL_TEAM))
    assert found.decision == "rollback" and found.reasons[0] == "evidence of harm"


def test_margins_within_reach_are_waited_for_until_patience_ends() -> None:
    crowd = Audience(people=4000, conversations=20_000, requests=60_000, ratings=18_000)
    early = replace(CANARY, met=met(errors=Shares(40, 0.0)))
    assert decide(early, plan(crowd)).decision == "hold"
    late = decide(replace(early, hours=37), plan(crowd))
    assert late.decision == "promote" and "out of reach" in late.reasons[0]


def test_groups_of_unlike_size_hold() -> None:
    uneven = decide(replace(CANARY, met=met(control=1300)), PLAN)
    assert uneven.decision == "hold" and "drawn alike" in uneven.reasons[0]


def test_a_rule_says_its_value_and_limit_and_what_it_still_needs_in_its_own_unit() -> None:
    few = replace(CANARY, new=VersionMetrics(12, 0, 0, 290.0, 4, 4.3), met=met(errors=Shares(12, 0.0)))
    rules = {each.name: each for each in conditions(few, PLAN)}
    error, latency = rules["error rate of the stage"], rules["p99 latency"]
    assert (error.message, error.needs) == ("0.00% failed; up to 5% may", "needs 18 more requests")
    assert error.test_message.endswith("by 12 people")
    assert latency.message == "p99 is 290 ms and may rise to 2,000 ms"
    assert latency.interval and latency.interval.axis == "requests slower than 2,000 ms"
    ratio = rules["error rate against the baseline"]
    assert ratio.message == "0.00% failed; up to 0.59% may, 1.5 times the control's 0.40%"
    assert "of the 67 that is needed" in ratio.test_message
    rated = rules["satisfaction against the baseline"]
    assert rated.message == "4.30 of 5; at least 3.60 required, 0.9 times the baseline's 4.00"
    assert rated.needs == f"needs {POLICY.min_ratings - 4} more ratings of the new version"
    assert rated.interval and (rated.interval.unit, rated.interval.limit) == ("stars", pytest.approx(3.6))
    assert not any(each.needs for each in conditions(CANARY, PLAN))


def test_a_baseline_without_errors_allows_none_and_says_why() -> None:
    spotless = replace(CANARY, met=met(control_errors=Shares(1010, 0.0)))
    assert "none of the control's did" in conditions(spotless, PLAN)[0].message


def test_what_is_short_in_staging_are_copies_and_votes() -> None:
    staging = replace(CANARY, stage="staging", met=met(new=1))
    assert conditions(staging, plan(SMALL_TEAM))[0].needs == "needs 29 more shadow copies"
    assert not conditions(staging, PLAN)[0].needs, "where none are made, none are waited for"
    held = decide(voted([(f"p{number}", "win") for number in range(POLICY.min_ab_votes - 1)]), PLAN)
    assert held.reasons[0].endswith("; needs 1 more vote")


def test_a_stage_without_a_limit_has_no_rule_about_it() -> None:
    free = POLICY.model_copy(update={"full": POLICY.full.model_copy(update={"max_error_rate": None})})
    full = conditions(replace(CANARY, stage="full"), replace(PLAN, policy=free))
    assert "error rate of the stage" not in [each.name for each in full] and len(full) == 5


def test_no_data_holds_and_then_times_out_into_a_rollback() -> None:
    silent = replace(CANARY, new=VersionMetrics(), met=Exposure())
    assert decide(silent, PLAN).decision == "hold"
    assert all(each.evidence is None for each in conditions(silent, PLAN))
    late = decide(replace(silent, hours=241), PLAN)
    assert late.decision == "rollback" and "still undecided" in late.reasons[0]


def test_staging_waits_for_the_ab_test() -> None:
    def staging(outcomes: list[Outcome], hours: float = 1) -> Evidence:
        return voted([(f"p{i}", outcome) for i, outcome in enumerate(outcomes)], hours)

    assert decide(staging(["win"] * 49), PLAN).decision == "hold"
    assert decide(staging(["win"] * 60 + ["loss"] * 15), PLAN).decision == "promote"
    assert decide(staging(["win"] * 15 + ["loss"] * 60), PLAN).decision == "rollback"
    assert decide(staging(["win", "loss"] * 40), PLAN).decision == "hold"
    assert decide(staging(["win", "loss"] * 40, hours=400), PLAN).decision == "rollback"


def test_a_won_test_waits_a_day_for_shadow_copies_where_somebody_asks() -> None:
    won = voted([(f"p{i % 8}", "win") for i in range(60)])
    assert decide(won, PLAN).decision == "promote"
    held = decide(won, plan(SMALL_TEAM))
    assert held.decision == "hold" and "needs 30 more shadow copies" in held.reasons[1]
    assert decide(replace(won, hours=25), plan(SMALL_TEAM)).decision == "promote"


def test_shadow_copies_that_fail_roll_a_version_back_before_anybody_meets_it() -> None:
    failing = met(control=0, bad=Events(), errors=Shares(), control_errors=Shares(), crashes=Shares(200, 60.0))
    found = decide(Evidence("staging", 1, new=GOOD, met=failing), PLAN)
    assert found.decision == "rollback" and "crash rate" in found.reasons[1]


def test_a_crowd_whom_nobody_vouches_for_holds_the_version_whatever_the_others_say() -> None:
    won, lost = ["win"] * 60 + ["loss"] * 15, ["win"] * 15 + ["loss"] * 60
    for outcomes in (won, lost):
        votes = voted([(f"p{i}", outcome) for i, outcome in enumerate(outcomes)])  # type: ignore[misc]
        held = decide(replace(votes, burst="9 of 9 strangers"), PLAN)
        assert (held.decision, held.reasons[0], held.asks) == ("hold", "9 of 9 strangers", True)
        assert decide(votes, PLAN).decision != "hold"
    over = replace(voted([("p", "win")], hours=400), burst="9 of 9 strangers")
    assert decide(over, PLAN).decision == "rollback", "no crowd keeps a version in staging for ever"


def test_what_one_person_alone_wins_is_held() -> None:
    votes: list[tuple[str, Outcome]] = [("loud", "win")] * 40
    votes += [(f"p{i}", "win" if i % 2 else "loss") for i in range(7)] * 5
    held = decide(voted(votes, policy=RolloutPolicy(min_ab_votes=20)), plan(min_ab_votes=20))
    assert held.decision == "hold" and held.reasons[0].startswith(("A/B test won by one person", "A/B test undecided"))


def test_full_traffic_is_watched() -> None:
    full = replace(CANARY, stage="full", met=met(control=0, control_opinions=Opinions()))
    assert decide(full, PLAN).decision == "hold"
    bad = replace(full, new=replace(GOOD, errors=700), met=met(control=0, errors=Shares(1000, 140.0)))
    assert decide(bad, PLAN).decision == "rollback"


def test_durations_can_be_compressed() -> None:
    fast = RolloutPolicy(duration_scale=1e-4)
    assert decide(replace(CANARY, hours=0.0025), replace(PLAN, policy=fast)).decision == "promote"
    assert decide(replace(CANARY, hours=0.0023), replace(PLAN, policy=fast)).decision == "hold"
