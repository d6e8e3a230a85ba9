"""How a version does, by what was served and said of it: alone, and in a stage of its rollout beside its control."""

import math
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from statistics import fmean, variance

from dpo_pipeline.core.exposure import SHORTEST_H, Audience
from dpo_pipeline.core.outcomes import RequestOutcome
from dpo_pipeline.core.rollout import VersionMetrics
from dpo_pipeline.core.sequential_tests import Opinions
from dpo_pipeline.core.serving_records import (
    FeedbackRecord,
    Record,
    RequestRecord,
    is_evidence,
    is_rating,
    somebody_vouches,
)

LatencyAndOutcome = tuple[float, RequestOutcome, bool]
"""How one request went: (latency in ms, outcome, whether a simulated person asked)."""
Rated = tuple[str, FeedbackRecord]
"""A rating and the unit that gave it."""


def version_metrics(records: Iterable[Record], versions: Sequence[str]) -> dict[str, VersionMetrics]:
    """What each version did in these records; shadow copies are left out.

    The newest rating of a request counts, and everybody's ratings together count as one person's.
    """
    # Not the records themselves: the rollout page asks this of a whole day every few seconds.
    requests: dict[str, list[LatencyAndOutcome]] = {name: [] for name in versions}
    ratings: dict[str, dict[str, FeedbackRecord]] = {name: {} for name in versions}
    for record in records:
        if isinstance(record, RequestRecord) and record.version in requests and is_evidence(record):
            requests[record.version].append(how_it_went(record))
        elif is_rating(record) and record.version in ratings:
            ratings[record.version][record.request_id] = record
    return {name: metrics_of(requests[name], list(ratings[name].values())) for name in versions}


def person_means(records: Iterable[Record], version: str, count_unproven: bool = False) -> list[float]:
    """The mean rating of everybody who rated a version and for whom somebody vouches, 1 to 5.

    The newest rating of a request counts.
    """
    newest: dict[str, FeedbackRecord] = {}
    for record in records:
        if is_rating(record) and record.version == version and (count_unproven or somebody_vouches(record)):
            newest[record.request_id] = record
    return _unit_means((rating.user, rating) for rating in newest.values())


def audience_of(records: Iterable[Record], since: datetime, now: datetime, count_unproven: bool = False) -> Audience:
    """Whose use of the model in these records counts, from `since` or the first record on; shadow copies are nobody's.

    Args:
        records: at or after `since`.
    """
    people, conversations = set(), set()
    requests = ratings = 0
    first = ""
    for record in records:
        first = first or record.recorded_at
        if not (count_unproven or somebody_vouches(record)):
            continue
        if isinstance(record, RequestRecord) and is_evidence(record):
            requests += 1
            people.add(record.user)
            conversations.add((record.user, record.conversation or record.session_id or record.request_id))
        elif is_rating(record):
            ratings += 1
    begun = datetime.fromisoformat(first) if first else since.astimezone(UTC)
    hours = max((now - begun).total_seconds() / 3600, SHORTEST_H)
    return Audience(len(people), len(conversations), requests, ratings, hours)


def _unit_means(ratings: Iterable[Rated]) -> list[float]:
    """The mean rating of each unit."""
    by_unit: dict[str, list[int]] = {}
    for key, rating in ratings:
        if rating.stars is not None:
            by_unit.setdefault(key, []).append(rating.stars)
    return [fmean(mine) for mine in by_unit.values()]


def opinions_of(ratings: Iterable[Rated]) -> Opinions:
    """Of units: each counts once, with the mean of its ratings."""
    means = _unit_means(ratings)
    if not means:
        return Opinions()
    return Opinions(len(means), fmean(means), variance(means) if len(means) > 1 else 0.0)


def how_it_went(request: RequestRecord) -> LatencyAndOutcome:
    return request.latency_ms, request.outcome, request.source == "simulated"


def metrics_of(requests: list[LatencyAndOutcome], ratings: list[FeedbackRecord]) -> VersionMetrics:
    opinions = opinions_of((rating.user, rating) for rating in ratings)
    latencies = sorted(latency for latency, _, _ in requests)
    return VersionMetrics(
        requests=len(requests),
        errors=sum(outcome.failed for _, outcome, _ in requests),
        crashes=sum(outcome is RequestOutcome.CRASH for _, outcome, _ in requests),
        p99_ms=latencies[max(math.ceil(0.99 * len(latencies)) - 1, 0)] if latencies else None,
        ratings=len(ratings),
        satisfaction=opinions.mean if opinions.units else None,
        simulated_requests=sum(simulated for _, _, simulated in requests),
        simulated_ratings=sum(rating.source == "simulated" for rating in ratings),
    )
