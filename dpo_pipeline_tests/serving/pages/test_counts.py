"""What pages say of votes: simulated ones are marked and counted apart, and no number contradicts the one beside it."""

from datetime import date

from dpo_pipeline.core.contributions import week_of
from dpo_pipeline.core.leaderboard import standings
from dpo_pipeline.core.vote_count import VoteCount
from dpo_pipeline.serving.pages import ab_view, leaderboard
from dpo_pipeline.serving.pages.contributors import week_page
from dpo_pipeline.serving.services.counts import BattleFilter
from dpo_pipeline.settings import Cadence

MONDAY = date(2026, 3, 2)


def test_contributors_count_simulated_people_apart() -> None:
    robots = {(f"robot-{number}", MONDAY): 4 for number in range(119)}
    told = week_page(week_of({("ann", MONDAY): 12}, {}, MONDAY, Cadence(), robots), None, "UTC")
    assert "week of 02 March (UTC)" in told
    assert "<dt>People</dt><dd>1</dd>" in told and "<dt>By people</dt><dd>12</dd>" in told
    assert "<dt>Simulated</dt><dd>476</dd>" in told and "119 simulated people" in told
    assert "488 of 300 votes this week: 12 by people, 476 simulated" in told, "the bar says it too"
    only = week_page(week_of({}, {}, MONDAY, Cadence(), robots), None, "UTC")
    assert "All votes so far are simulated" in only and "No votes yet" not in only and "0 others" not in only
    assert "imulated" not in week_page(week_of({("ann", MONDAY): 12}, {}, MONDAY, Cadence()), None, "UTC")


def test_the_progress_of_the_day_hatches_what_is_simulated() -> None:
    told = ab_view.progress(VoteCount(12, 476), 100, {"creative": VoteCount(3, 9)}, "Europe/Berlin")
    assert "collected today (Europe/Berlin): <b>488 / 100</b>" in told and "12 by people, 476 simulated" in told
    assert '<span style="width:12.0%"></span><span class="simulated" style="width:88.0%"></span>' in told
    assert '<span style="width:25.0%"></span><span class="simulated" style="width:75.0%"></span>' in told
    assert 'aria-label="3 by people, 9 simulated"' in told and "hatched: simulated" in told
    assert "simulated<" not in ab_view.progress(VoteCount(12), 100, {}, "UTC")


def test_a_leaderboard_without_scores_does_not_deny_the_votes_beside_it() -> None:
    alike = leaderboard.whole_page(standings({("v1.0", "v1.0", "tie"): 351}), None, {})
    assert "No votes between two versions yet" in alike and "351 votes compared two answers" in alike
    assert "No votes yet" in leaderboard.whole_page(standings({}), None, {})


def test_what_the_votes_do_not_tell_apart_is_tied_on_both_sides() -> None:
    level = {("v1.0", "v1.1", "model_b"): 20, ("v1.0", "v1.1", "model_a"): 19}
    clear = {("v1.0", "v1.1", "model_b"): 90, ("v1.0", "v1.1", "model_a"): 10}
    assert leaderboard.whole_page(standings(level), None, {}).count(">1 (tied)<") == 2
    told = leaderboard.whole_page(standings(clear), None, {})
    assert "(tied)" not in told and ">1<" in told and ">2<" in told


def test_a_leaderboard_says_why_columns_are_missing() -> None:
    found = standings({("v1.0", "v1.1", "model_b"): 20, ("v1.0", "v1.1", "model_a"): 10})
    assert "need at least 100 votes" in leaderboard.whole_page(found, None, {})
    some = leaderboard.filtered_page(found, BattleFilter(days=1), "Europe/Berlin")
    assert "clear the filters to see them" in some and "Days begin at midnight in Europe/Berlin" in some
