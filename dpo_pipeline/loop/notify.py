"""Reminders and alerts to people, over apprise: mail, chat, a webhook, a file's address, whatever it knows."""

import logging
from collections import Counter
from dataclasses import dataclass
from datetime import datetime, timedelta

from dpo_pipeline.core.calendar import day_of, weeks_so_far
from dpo_pipeline.core.questions import least_covered
from dpo_pipeline.core.serving_records import RequestRecord, is_evidence
from dpo_pipeline.errors import NotificationFailed
from dpo_pipeline.settings import Notifications, Settings
from dpo_pipeline.stores.decode import votes_of
from dpo_pipeline.stores.ledger import utc_text
from dpo_pipeline.stores.log_reading import Position, read_batches
from dpo_pipeline.stores.reviews import ReviewLog
from dpo_pipeline.stores.serving_log import read_records

log = logging.getLogger(__name__)
ENOUGH_REQUESTS = 50
HOUR, ALERT_EVERY = timedelta(hours=1), timedelta(minutes=15)


@dataclass(frozen=True)
class Notification:
    title: str
    body: str


def reminder(settings: Settings, now: datetime) -> Notification | None:
    """An invitation to vote; null where this week's votes are on the way to their target.

    The target counts evenly over the days of the week, Monday to Sunday.
    """
    [week] = weeks_so_far(now, settings.zone, 1)
    begun = utc_text(week.begins)
    votes, categories, withdrawn = 0, Counter[str](), ReviewLog(settings.reviews_log).withdrawn()
    for batch in read_batches(settings.prefs_log, Position(), settings.collection.max_line_bytes):
        for event in votes_of(batch):
            if event.from_people and event.recorded_at >= begun and event.event_id not in withdrawn:
                votes += 1
                categories[event.category] += 1
    weekday = day_of(now, settings.zone).weekday()
    expected = round(settings.cadence.weekly_target * (weekday + 1) / 7)
    if votes >= expected:
        return None
    missing, questions = expected - votes, min(max(expected - votes, 10), 50)
    return Notification(
        f"{missing} votes behind this week's target",
        f"{votes} of {settings.cadence.weekly_target} votes this week; {expected} would be on target today. A batch "
        f"testing session of {questions} questions helps, most of all on {least_covered(categories)}: "
        f"{settings.serving_address}/compare",
    )


def error_alert(settings: Settings, now: datetime) -> Notification | None:
    """What to tell when the share of failed requests of the last hour, of fifty or more, reaches kpis.error_alert.

    Asked every quarter of an hour, it tells when that begins, and once an hour for as long as it lasts.
    """
    requests = [
        record
        for record in read_records(settings.serving_log_dir, utc_text(now - HOUR - ALERT_EVERY))
        if isinstance(record, RequestRecord) and is_evidence(record) and record.source != "simulated"
    ]

    def failures(until: datetime) -> tuple[int, int]:
        """Failed requests, and all, of the hour before."""
        first, last = utc_text(until - HOUR), utc_text(until)
        outcomes = [each.outcome for each in requests if first <= each.recorded_at <= last]
        return sum(outcome.failed for outcome in outcomes), len(outcomes)

    def too_many(failed: int, count: int) -> bool:
        return count >= ENOUGH_REQUESTS and failed >= settings.kpis.error_alert * count

    failed, count = failures(now)
    on_the_hour = now.minute * timedelta(minutes=1) < ALERT_EVERY
    if not too_many(failed, count) or (too_many(*failures(now - ALERT_EVERY)) and not on_the_hour):
        return None
    return Notification(
        f"{failed / count:.1%} of the requests of the last hour failed",
        f"{failed} of {count}; {settings.kpis.error_alert:.0%} is the limit. Rollout: "
        f"{settings.serving_address}/rollout. `dpo rollout abort --reason …` rolls the newest version back.",
    )


def tell(settings: Settings, title: str, body: str) -> None:
    """`notify` beside work that must not fail because nobody could be told."""
    try:
        notify(settings.notifications, title, body)
    except NotificationFailed:
        log.exception("%r reached nobody: %s", title, body)


def notify(notifications: Notifications, title: str, body: str) -> int:
    """Send to every address of the settings; returns how many there are.

    Raises:
        NotificationFailed: an address is none, or did not take it.
    """
    addresses = [url.get_secret_value() for url in notifications.urls]
    if not addresses:
        return 0
    import apprise

    channel = apprise.Apprise()
    for number, address in enumerate(addresses, 1):
        if not channel.add(address):
            raise NotificationFailed(
                f"Address {number} of notifications.urls is none that apprise knows. See its list of services, and set "
                "DPO_NOTIFICATIONS__URLS to a JSON list of such addresses."
            )
    if not channel.notify(title=title, body=body):
        raise NotificationFailed(
            f"{title!r} could not be sent to all {len(addresses)} addresses of notifications.urls. Try one with the "
            "command line of apprise; what it said is in this log."
        )
    log.info("%r was sent to %d addresses", title, len(addresses))
    return len(addresses)
