"""What rollouts will come to with the people who use the model: from last week's logs, or from what somebody names."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from dpo_pipeline.core.exposure import NO_AUDIENCE, Audience
from dpo_pipeline.core.forecast import Forecast, forecast
from dpo_pipeline.core.identity import is_proven
from dpo_pipeline.core.version_metrics import audience_of
from dpo_pipeline.core.votes import NOT_PEOPLES
from dpo_pipeline.settings import RolloutPolicy, Settings
from dpo_pipeline.stores.ledger import utc_text
from dpo_pipeline.stores.reviews import ReviewLog
from dpo_pipeline.stores.serving_log import read_records

WEEK = timedelta(days=7)


class _Vote(msgspec.Struct):
    """Of a line of the log only what is asked here."""

    event_id: str
    recorded_at: str
    annotator: str
    source: str
    identity: str = ""
    steered: bool = False


@dataclass(frozen=True)
class WeeklyUsage:
    """Who use the model and how much, per day."""

    people: int
    requests_a_day: float
    votes_a_day: float
    ratings_share: float
    conversations_a_day: float
    counted: Audience = NO_AUDIENCE
    """What was counted; empty where somebody named the figures."""

    def given(
        self, people: int | None, requests_a_day: float | None, votes_a_day: float | None, ratings_share: float | None
    ) -> "WeeklyUsage":
        """The same with what is named instead; a conversation then has the usual four requests."""
        asked = self.requests_a_day if requests_a_day is None else requests_a_day
        return WeeklyUsage(
            self.people if people is None else people,
            asked,
            self.votes_a_day if votes_a_day is None else votes_a_day,
            self.ratings_share if ratings_share is None else ratings_share,
            self.conversations_a_day if requests_a_day is None else asked / 4,
        )

    @property
    def audience(self) -> Audience:
        requests = round(7 * self.requests_a_day)
        return Audience(
            self.people, round(7 * self.conversations_a_day), requests, round(requests * self.ratings_share)
        )

    def forecast(self, policy: RolloutPolicy) -> Forecast:
        return forecast(policy, self.audience, self.votes_a_day)

    def __str__(self) -> str:
        return (
            f"{self.people:,} people, {_count(self.requests_a_day)} requests and {_count(self.votes_a_day)} votes "
            f"a day, {self.ratings_share:.0%} rated"
        )


def _count(a_day: float) -> str:
    return f"{a_day:,.0f}" if a_day >= 100 else f"{a_day:.3g}"


def last_week(settings: Settings, now: datetime | None = None) -> WeeklyUsage:
    """From the serving log and the preference log; simulated votes count like the people they stand for."""
    moment = now or datetime.now(UTC)
    records = read_records(settings.serving_log_dir, utc_text(moment - WEEK))
    found = audience_of(records, moment - WEEK, moment, settings.rollout.count_unproven)
    days = found.hours / 24
    return WeeklyUsage(
        people=found.people,
        requests_a_day=found.requests / days,
        votes_a_day=_votes_since(settings, moment - WEEK) / days,
        ratings_share=found.ratings / found.requests if found.requests else 0.0,
        conversations_a_day=found.conversations / days,
        counted=found,
    )


def _votes_since(settings: Settings, since: datetime) -> int:
    if not settings.prefs_log.exists():
        return 0
    withdrawn = ReviewLog(settings.reviews_log).withdrawn()
    decoder, begin, count = msgspec.json.Decoder(_Vote), since.astimezone(UTC).isoformat(), 0
    with settings.prefs_log.open("rb") as lines:
        for line in lines:
            try:
                vote = decoder.decode(line)
            except (msgspec.MsgspecError, UnicodeDecodeError):
                continue  # ingest quarantines it and says so
            counts = not vote.steered and (settings.rollout.count_unproven or is_proven(vote.identity))
            counts = counts and vote.event_id not in withdrawn
            count += counts and vote.recorded_at >= begin and vote.source not in NOT_PEOPLES
    return count


def play_rollouts(
    policy: RolloutPolicy,
    usage: WeeklyUsage,
    runs: int,
    new_errors: float,
    new_win_rate: float | None,
    satisfaction_shift: float,
    seed: int,
) -> dict[str, Any]:
    """Shares and medians of so many rollouts with the real decision code (`simulation.rollouts.shares`)."""
    import numpy as np  # not at the top: nothing else here needs it

    from dpo_pipeline.simulation.audience import World
    from dpo_pipeline.simulation.rollouts import play, shares

    world = World(
        people=max(usage.people, 1),
        requests_a_day=usage.requests_a_day,
        votes_a_day=usage.votes_a_day,
        ratings_share=usage.ratings_share,
        new_errors=new_errors,
        win_rate=new_win_rate,
        satisfaction_shift=satisfaction_shift,
    )
    return shares([play(world, policy, np.random.default_rng([seed, number])) for number in range(runs)])
