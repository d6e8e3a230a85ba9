"""The weekly report as a value: KPIs against targets, trends, the user's own keys, the next actions in words."""

from typing import Any

from dpo_pipeline.core.kpis import Week, coverage, kpis_of, trend
from dpo_pipeline.core.questions import CATEGORIES
from dpo_pipeline.core.report import TimelineStep, WeeklyReport, weekly_report
from dpo_pipeline.core.trajectory import VersionFigures, trajectory
from dpo_pipeline.core.winrate import win_rate
from dpo_pipeline.settings import Cadence, Kpis
from dpo_pipeline_tests.examples import preference

EVEN = dict.fromkeys(CATEGORIES, 50)
WEEK = Week(
    preferences=250, by_category=EVEN, clear_winners=0.8, quality_score=0.9, satisfaction=4.2, ratings=80,
    error_rate=0.004, requests=900, session_length=3.2,
)  # fmt: skip
BEFORE = Week(
    preferences=200, by_category=EVEN, clear_winners=0.8, satisfaction=4.0, error_rate=0.004, session_length=3.0
)


def figures(name: str, won: int, lost: int, **fields: Any) -> VersionFigures:
    votes = ["win"] * won + ["loss"] * lost
    return VersionFigures(name, "champion", win_rate=win_rate(votes), **fields)  # type: ignore[arg-type]


VERSIONS = [VersionFigures("v1.0", "retired", words=9.0), figures("v1.1", 60, 30, satisfaction=4.2, words=18.5)]


def report(week: Week = WEEK, unused: int = 87, **fields: Any) -> WeeklyReport:
    given: dict[str, Any] = {"versions": VERSIONS, "champion": "v1.1", "threshold": 100, "timeline": ()} | fields
    return weekly_report([week, BEFORE], unused=unused, cadence=Cadence(), kpis=Kpis(), **given)


def test_every_kpi_has_value_target_and_trend() -> None:
    found = {kpi.name: kpi for kpi in report().kpis}
    assert set(found) == {
        "user_satisfaction", "win_rate_over_baseline", "error_rate", "session_length", "preferences_collected",
        "category_coverage", "clear_winners", "quality_score",
    }  # fmt: skip
    assert {name for name, kpi in found.items() if not kpi.met} == {"preferences_collected"}, "250 of 300"
    assert (found["user_satisfaction"].trend, found["error_rate"].trend) == ("rising", "steady")
    assert found["win_rate_over_baseline"].value == 60 / 90


def test_the_win_rate_is_that_of_the_newest_version_that_was_voted_on() -> None:
    versions = [*VERSIONS, figures("v1.2", 70, 30), VersionFigures("v1.3", "training")]
    found = {kpi.name: kpi for kpi in report(versions=versions).kpis}["win_rate_over_baseline"]
    assert (found.value, found.trend, found.met) == (0.7, "rising", True)


def test_satisfaction_above_its_target_but_falling_is_missed() -> None:
    for satisfaction, met in ((4.2, True), (4.05, True), (4.0, False), (3.9, False)):
        week = Week(**{**WEEK.__dict__, "satisfaction": satisfaction})
        before = Week(**{**BEFORE.__dict__, "satisfaction": 4.0})
        [kpi, *_] = weekly_report([week, before], VERSIONS, "v1.1", 0, 100, (), Cadence(), Kpis()).kpis
        assert kpi.met is met, satisfaction
    fell = weekly_report([WEEK, Week(satisfaction=4.6)], VERSIONS, "v1.1", 0, 100, (), Cadence(), Kpis()).kpis[0]
    assert fell.target == "above 4 and not falling" and fell.trend == "falling" and fell.met is False


def test_a_vote_counts_in_the_kpis_that_it_can_change() -> None:
    assert kpis_of(preference(1, model_a="v1.1", model_b="v1.0")) == (
        "preferences_collected", "category_coverage", "clear_winners", "quality_score", "win_rate_over_baseline",
    )  # fmt: skip
    tied = preference(1, model_a="v1.2", model_b="v1.1", vote="tie", category="other")
    assert kpis_of(tied) == ("preferences_collected", "clear_winners")
    assert kpis_of(preference(1, source="import")) == ()


def test_nothing_measured_is_not_met_and_not_missed() -> None:
    empty = {kpi.name: kpi for kpi in weekly_report([Week()], [], None, 0, 100, (), Cadence(), Kpis()).kpis}
    for name in ("user_satisfaction", "win_rate_over_baseline", "error_rate", "session_length", "category_coverage"):
        assert empty[name].met is None and empty[name].trend == "unknown"
    assert empty["preferences_collected"].met is False


def test_errors_beyond_two_per_cent_are_an_alert() -> None:
    bad = report(Week(**{**WEEK.__dict__, "error_rate": 0.03}))
    assert [kpi.name for kpi in bad.alerts] == ["error_rate"]
    assert any("3.0%" in action for action in bad.next_actions)
    missed = report(Week(**{**WEEK.__dict__, "error_rate": 0.015}))
    assert not missed.alerts and not {kpi.name: kpi for kpi in missed.kpis}["error_rate"].met


def test_the_users_own_keys() -> None:
    told = report().to_json()
    assert list(told) == [
        "preferences_collected", "target", "progress", "model_comparison", "data_quality", "next_actions",
    ]  # fmt: skip
    assert (told["preferences_collected"], told["target"], told["progress"]) == (250, 300, 0.833)
    assert told["model_comparison"]["v1.1_vs_v1.0"]["win_rate"] == 60 / 90
    assert list(told["model_comparison"]["v1.1_vs_v1.0"]) == ["win_rate", "user_preference", "avg_length"]
    assert list(told["data_quality"]) == ["clear_winners", "category_coverage", "avg_quality_score"]
    assert told["next_actions"] == ["Continue collecting (13 more preferences)"]


def test_next_actions_say_what_is_missing() -> None:
    thin = Week(preferences=40, by_category={**dict.fromkeys(CATEGORIES, 10), "creative": 0}, clear_winners=0.3)
    said = " | ".join(report(thin, unused=120).next_actions)
    for words in (
        "Train the next version",
        "batch testing session (60 votes below",
        "Creative",
        "too many votes are ties",
    ):
        assert words in said


def test_diminishing_returns_are_named() -> None:
    rising = [VERSIONS[0], figures("v1.1", 60, 40), figures("v1.2", 69, 31)]
    assert trajectory(rising).finding.startswith("Still improving")
    flat = trajectory([*rising, figures("v1.3", 70, 30)])
    assert flat.gains == (0.1, 0.09, 0.01) and flat.finding.startswith("Diminishing returns: v1.3")
    assert "added nothing" in trajectory([*rising, figures("v1.3", 65, 35)]).finding
    assert "Too few" in trajectory(VERSIONS).finding


def test_trends_and_coverage() -> None:
    assert [trend(now, 4.0) for now in (4.0, 4.05, 4.2, 3.0, None)] == [
        "steady", "steady", "rising", "falling", "unknown",
    ]  # fmt: skip
    assert coverage(EVEN) == 1.0 and coverage({}) == 0.0 and coverage({"creative": 10}) == 0.2
    assert TimelineStep("train", 168.0, None).actual_h is None
