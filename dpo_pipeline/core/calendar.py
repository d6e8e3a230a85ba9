"""Days and weeks of the team: one rule for the report, the reminder, the contributors' page and the schedules.

A day begins at midnight, a week on Monday at 00:00, both in the team's time zone; where clocks are put forward or
back, a day has 23 or 25 hours and a week an hour less or more.
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo


@dataclass(frozen=True)
class Span:
    """From a moment up to, and without, another one; both in UTC."""

    begins: datetime
    ends: datetime


def day_of(moment: datetime, zone: ZoneInfo) -> date:
    """The date that people in `zone` write at this moment."""
    return moment.astimezone(zone).date()


def as_read(moment: datetime | str, zone: ZoneInfo) -> str:
    """A moment as people in `zone` read it, with the zone: "29 Nov 2026 03:12:05 CET"."""
    local = (datetime.fromisoformat(moment) if isinstance(moment, str) else moment).astimezone(zone)
    name = str(local.tzname())  # of many zones only what they are ahead of UTC
    return f"{local:%d %b %Y %H:%M:%S} {name if name.isalpha() else f'UTC{name}'}"


def week_start(day: date) -> date:
    """The Monday of its week."""
    return day - timedelta(days=day.weekday())


def midnight(day: date, zone: ZoneInfo) -> datetime:
    """The moment, in UTC, at which a day begins in `zone`."""
    return datetime.combine(day, time(), zone).astimezone(UTC)


def weeks_so_far(now: datetime, zone: ZoneInfo, count: int) -> list[Span]:
    """The week so far, beside the same stretch of those before, newest first.

    Half a week against a whole one would look like a fall. Each stretch ends at the same time of day.
    """
    monday, clock = week_start(day_of(now, zone)), now.astimezone(zone)
    weeks = [timedelta(weeks=number) for number in range(count)]
    return [Span(midnight(monday - ago, zone), (clock - ago).astimezone(UTC)) for ago in weeks]


def ended_weeks(now: datetime, zone: ZoneInfo, count: int) -> list[Span]:
    """The last whole weeks, newest first."""
    monday = week_start(day_of(now, zone))
    mondays = [midnight(monday - timedelta(weeks=number), zone) for number in range(count + 1)]
    return [Span(begins, ends) for ends, begins in pairwise(mondays)]
