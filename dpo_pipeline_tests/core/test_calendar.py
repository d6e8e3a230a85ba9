"""Days and weeks in a team's time zone, across changes of the clock."""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpo_pipeline.core.calendar import as_read, day_of, ended_weeks, midnight, week_start, weeks_so_far

BERLIN = ZoneInfo("Europe/Berlin")
ZONES = ("UTC", "Europe/Berlin", "America/St_Johns", "Asia/Kathmandu", "Australia/Lord_Howe", "Pacific/Apia")


def utc(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)  # type: ignore[arg-type, misc]


@given(st.dates(min_value=date(2000, 1, 1)))
def test_a_week_begins_on_the_monday_before(day: date) -> None:
    first = week_start(day)
    assert first.weekday() == 0 and timedelta(0) <= day - first <= timedelta(days=6)


@pytest.mark.parametrize(
    ("zone", "read"),
    [
        ("UTC", "01 Nov 2026 23:30:05 UTC"),
        ("Europe/Berlin", "02 Nov 2026 00:30:05 CET"),
        ("Asia/Kathmandu", "02 Nov 2026 05:15:05 UTC+0545"),
    ],
)
def test_a_moment_is_read_with_its_zone(zone: str, read: str) -> None:
    assert as_read("2026-11-01T23:30:05.123Z", ZoneInfo(zone)) == read
    assert as_read(utc(2026, 11, 1, 23, 30, 5), ZoneInfo(zone)) == read


def test_a_week_begins_at_midnight_of_the_team() -> None:
    late_on_sunday = utc(2026, 11, 1, 23, 30)  # half past midnight on Monday in Berlin
    assert day_of(late_on_sunday, BERLIN) == date(2026, 11, 2)
    [berlin], [elsewhere] = weeks_so_far(late_on_sunday, BERLIN, 1), weeks_so_far(late_on_sunday, ZoneInfo("UTC"), 1)
    assert berlin.begins == utc(2026, 11, 1, 23) and elsewhere.begins == utc(2026, 10, 26)


@pytest.mark.parametrize(("monday", "hours"), [((2026, 3, 30), 167), ((2026, 10, 26), 169), ((2026, 11, 2), 168)])
def test_a_week_in_which_the_clock_changes_is_an_hour_shorter_or_longer(
    monday: tuple[int, int, int], hours: int
) -> None:
    [ended] = ended_weeks(midnight(date(*monday), BERLIN), BERLIN, 1)
    assert ended.ends - ended.begins == timedelta(hours=hours)


def test_the_week_so_far_is_compared_with_the_same_stretch_of_the_one_before() -> None:
    this, before = weeks_so_far(utc(2026, 10, 27, 11), BERLIN, 2)  # Tuesday noon, two days after the clocks went back
    assert (this.begins, this.ends) == (utc(2026, 10, 25, 23), utc(2026, 10, 27, 11))
    assert (before.begins, before.ends) == (utc(2026, 10, 18, 22), utc(2026, 10, 20, 10))


@given(st.datetimes(datetime(2011, 1, 1), datetime(2030, 1, 1), timezones=st.just(UTC)), st.sampled_from(ZONES))
def test_whole_weeks_leave_no_gap_and_end_before_the_week_so_far_begins(now: datetime, name: str) -> None:
    zone = ZoneInfo(name)
    [so_far], ended = weeks_so_far(now, zone, 1), ended_weeks(now, zone, 3)
    assert so_far.begins == ended[0].ends and so_far.begins <= now
    assert [each.begins for each in ended[:-1]] == [each.ends for each in ended[1:]]
    assert all(each.begins.astimezone(zone).weekday() == 0 for each in [so_far, *ended])
