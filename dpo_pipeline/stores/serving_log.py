"""The serving log: one line a request or feedback, a file a day, and the metrics of a version in a window."""

import itertools
import logging
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from operator import itemgetter
from pathlib import Path
from statistics import fmean, variance
from typing import Literal, TypeGuard

import msgspec

from dpo_pipeline.core.exposure import SHORTEST_H, Audience, Unit, gets_challenger, is_control, unit_key
from dpo_pipeline.core.feedback import Signal, stars_of
from dpo_pipeline.core.identity import Identity, is_proven
from dpo_pipeline.core.outcomes import RequestOutcome
from dpo_pipeline.core.rollout import Exposure, VersionMetrics
from dpo_pipeline.core.sequential_tests import Events, Opinions, Shares
from dpo_pipeline.core.votes import is_moment
from dpo_pipeline.errors import LogWriteError
from dpo_pipeline.stores.log import AppendLog, days_of
from dpo_pipeline.stores.write_behind import WriteBehind

RequestSource = Literal["ui", "api", "simulated"]


class RequestRecord(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="request"):
    """One request, however it ended; `ttft_ms` is null where nothing was streamed."""

    request_id: str
    recorded_at: str
    session_id: str
    user: str
    version: str
    adapter_sha: str
    stage: str
    shadow: bool
    latency_ms: float
    ttft_ms: float | None
    tokens: int
    outcome: RequestOutcome
    source: RequestSource = "api"
    conversation: str = ""
    identity: Identity | msgspec.UnsetType = msgspec.UNSET


class FeedbackRecord(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="feedback"):
    """What a person said of an answer, or did with it, as it was given: `core.feedback` says what it means.

    With what was asked and answered, so that it can be trained on. A conversation's prompt is the list of its messages.
    """

    event_id: str
    recorded_at: str
    request_id: str
    user: str
    version: str
    signal: Signal
    value: int | str = ""
    prompt: str | list[dict[str, str]] = ""
    answer: str = ""
    source: RequestSource = "api"
    identity: Identity | msgspec.UnsetType = msgspec.UNSET

    @property
    def stars(self) -> int | None:
        return stars_of(self.signal, self.value)


class _Rating(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="rating"):
    """A line of an earlier version of this program, which wrote thumbs as 5 or 1."""

    event_id: str
    recorded_at: str
    request_id: str
    user: str
    version: str
    rating: int
    source: RequestSource = "api"
    identity: Identity | msgspec.UnsetType = msgspec.UNSET


class _Correction(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="correction"):
    """Likewise, from when answers were not kept."""

    event_id: str
    recorded_at: str
    request_id: str
    user: str
    version: str
    prompt: str | list[dict[str, str]]
    correction: str
    identity: Identity | msgspec.UnsetType = msgspec.UNSET


Record = RequestRecord | FeedbackRecord
Met = tuple[float, RequestOutcome]
"""How one request went: (latency in ms, outcome)."""
_decoder = msgspec.json.Decoder(RequestRecord | FeedbackRecord | _Rating | _Correction)
log = logging.getLogger(__name__)


class ServingLog:
    """Appends to the file of the day. Feedback is synced like votes; requests follow a moment later."""

    def __init__(self, directory: Path):
        self.directory = directory
        self._feedback: tuple[str, AppendLog] | None = None
        self._behind = WriteBehind(self._write_requests, "the serving log")

    def close(self) -> None:
        self._behind.close()

    def append(self, record: FeedbackRecord) -> None:
        """
        Raises:
            LogWriteError: it is not on disk and may be sent again.
        """
        day = record.recorded_at[:10]
        if self._feedback is None or self._feedback[0] != day:
            self._feedback = day, AppendLog(self._path(day))
        self._feedback[1].append(msgspec.json.encode(record))

    def append_request(self, record: RequestRecord) -> None:
        self._behind.put(record)

    def _write_requests(self, records: list[RequestRecord]) -> None:
        lines = [(record.recorded_at[:10], msgspec.json.encode(record)) for record in records]
        written = 0
        for day, group in itertools.groupby(lines, key=itemgetter(0)):
            of_day = [line for _, line in group]
            try:
                AppendLog(self._path(day), durable=False).append_all(of_day)
                written += len(of_day)
            except LogWriteError as error:
                if not written:
                    raise
                # Tried once more, what is written already would be counted twice.
                log.error("%d requests of %s are not in the serving log: %s", len(of_day), day, error)

    def _path(self, day: str) -> Path:
        return self.directory / f"{day}.jsonl"


def read_records(directory: Path, since: str) -> Iterator[Record]:
    """Records at or after `since` (RFC 3339, UTC). A torn last line is left for the next time.

    Requests are written without a sync, so a power cut may leave lines that are no records: each is told in the
    program's log with its place and passed over.
    """
    day = datetime.fromisoformat(since).astimezone(UTC).date()
    today = datetime.now(UTC).date()
    while day <= today + timedelta(days=1):
        path = directory / f"{day.isoformat()}.jsonl"
        if path.exists():
            yield from (record for record in read_day(path) if record.recorded_at >= since)
        day += timedelta(days=1)


def read_day(path: Path) -> Iterator[Record]:
    """Records of one file, which holds those of one day (UTC)."""
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if line.endswith(b"\n") and (record := _decoded(line, path, number)):
                yield record


def all_feedback(directory: Path) -> Iterator[FeedbackRecord]:
    """All that people ever said of answers, oldest first."""
    return (record for _, _, record in placed_feedback(directory))


def placed_feedback(directory: Path) -> Iterator[tuple[str, int, FeedbackRecord]]:
    """The same with each record's day and its place in that day, counted from 0."""
    for path in days_of(directory):
        records = (record for record in read_day(path) if isinstance(record, FeedbackRecord))
        yield from ((path.stem, place, record) for place, record in enumerate(records))


def _decoded(line: bytes, path: Path, number: int) -> Record | None:
    if line == b"\n":
        return None
    try:
        record: Record = _as_now(_decoder.decode(line))
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        log.warning("%s, line %d is no record (%s); it is passed over", path, number, error)
        return None
    if not is_moment(record.recorded_at):
        log.warning("%s, line %d has no moment as recorded_at; it is passed over", path, number)
        return None
    return record


def _as_now(line: RequestRecord | FeedbackRecord | _Rating | _Correction) -> Record:
    if isinstance(line, RequestRecord | FeedbackRecord):
        return line
    told = {name: value for name, value in msgspec.structs.asdict(line).items() if name not in ("rating", "correction")}
    if isinstance(line, _Rating):
        return FeedbackRecord(**told, signal="rating", value=line.rating)
    return FeedbackRecord(**told, signal="correction", value=line.correction)


def somebody_vouches(record: Record) -> bool:
    """For whoever asked or said this; in records from before identities were, for everybody."""
    return is_proven(record.identity)


def is_rating(record: Record) -> TypeGuard[FeedbackRecord]:
    """It says how satisfied somebody is: stars, or a thumb."""
    return isinstance(record, FeedbackRecord) and record.stars is not None


def is_evidence(request: RequestRecord) -> bool:
    """It says something about the version, and a person met it."""
    return request.outcome.counts and not request.shadow


def version_metrics(
    directory: Path, since: str, versions: Sequence[str], records: Iterable[Record] | None = None
) -> dict[str, VersionMetrics]:
    """What each version did since then, or in the records given; shadow copies are left out.

    The newest rating of a request counts, and everybody's ratings together count as one person's.
    """
    # Not the records themselves: the rollout page asks this of a whole day every few seconds.
    requests: dict[str, list[Met]] = {name: [] for name in versions}
    ratings: dict[str, dict[str, FeedbackRecord]] = {name: {} for name in versions}
    for record in read_records(directory, since) if records is None else records:
        if isinstance(record, RequestRecord) and record.version in requests and is_evidence(record):
            requests[record.version].append((record.latency_ms, record.outcome))
        elif is_rating(record) and record.version in ratings:
            ratings[record.version][record.request_id] = record
    return {name: _metrics(requests[name], list(ratings[name].values())) for name in versions}


def person_means(directory: Path, since: str, version: str, count_unproven: bool = False) -> list[float]:
    """The mean rating of everybody who rated a version since then and for whom somebody vouches, 1 to 5.

    The newest rating of a request counts.
    """
    newest: dict[str, FeedbackRecord] = {}
    for record in read_records(directory, since):
        if is_rating(record) and record.version == version and (count_unproven or somebody_vouches(record)):
            newest[record.request_id] = record
    return _unit_means((rating.user, rating) for rating in newest.values())


def stage_metrics(
    directory: Path,
    since: str,
    new: str,
    baseline: str,
    traffic: float,
    max_p99_ms: float,
    unit: Unit = "person",
    count_unproven: bool = False,
) -> tuple[VersionMetrics, VersionMetrics, Exposure]:
    """Both versions since a stage began, and what their units met.

    A request for a version by name does not count, unless the rollout would have served it that version too. In staging
    nobody is served the new version: shadow copies stand for it beside all that the champion answers, by request.

    Args:
        count_unproven: what people met for whom nobody vouches counts too.
    """
    staging = traffic == 0
    requests: dict[str, dict[str, list[RequestRecord]]] = {new: {}, baseline: {}}
    ratings: dict[str, dict[str, tuple[str, FeedbackRecord]]] = {new: {}, baseline: {}}
    keys: dict[str, str] = {}
    given: list[FeedbackRecord] = []
    for record in read_records(directory, since):
        if record.version not in requests:
            continue
        if not (count_unproven or somebody_vouches(record)):
            continue
        if isinstance(record, RequestRecord):
            if record.shadow != (staging and record.version == new) or not record.outcome.counts:
                continue
            by = "request" if staging else unit
            key = unit_key(by, record.user, record.conversation or record.session_id, record.request_id)
            if staging or gets_challenger(key, new, traffic) == (record.version == new):
                keys[record.request_id] = key
                requests[record.version].setdefault(key, []).append(record)
        elif is_rating(record):
            given.append(record)
    # After all requests: they are written a moment later than answered, and who is quick has rated by then.
    for rating in given:
        # A request from before the stage is known by its person only.
        rated = keys.get(rating.request_id, rating.user if unit == "person" and not staging else "")
        if rated and (staging or gets_challenger(rated, new, traffic) == (rating.version == new)):
            ratings[rating.version][rating.request_id] = rated, rating

    def compared(key: str) -> bool:
        return staging or is_control(key, new, traffic)

    ours, champions = requests[new], requests[baseline]
    theirs = {key: mine for key, mine in champions.items() if compared(key)}
    met = Exposure(
        new=len(ours),
        # Shadow copies are a share of the requests, by the budget: no two groups of one size.
        control=len(theirs),
        bad=Events(len(ours), _met_errors(ours), len(champions), _met_errors(champions)),
        errors=_shares(ours, lambda request: request.outcome.failed),
        crashes=_shares(ours, lambda request: request.outcome is RequestOutcome.CRASH),
        slow=_shares(ours, lambda request: request.latency_ms > max_p99_ms),
        control_errors=_shares(theirs, lambda request: request.outcome.failed),
        control_crashes=_shares(theirs, lambda request: request.outcome is RequestOutcome.CRASH),
        control_slow=_shares(theirs, lambda request: request.latency_ms > max_p99_ms),
        opinions=_opinions(ratings[new].values()),
        control_opinions=Opinions() if staging else _opinions(r for r in ratings[baseline].values() if compared(r[0])),
    )
    whole = {
        name: _metrics(
            [(each.latency_ms, each.outcome) for mine in requests[name].values() for each in mine],
            [rating for _, rating in ratings[name].values()],
        )
        for name in (new, baseline)
    }
    return whole[new], whole[baseline], met


def audience_of(directory: Path, since: datetime, now: datetime, count_unproven: bool = False) -> Audience:
    """Whose use of the model since then counts, or since the first record; shadow copies are nobody's."""
    people, conversations = set(), set()
    requests = ratings = 0
    first = ""
    for record in read_records(directory, since.astimezone(UTC).isoformat()):
        first = first or record.recorded_at
        if not (count_unproven or somebody_vouches(record)):
            continue
        if isinstance(record, RequestRecord) and is_evidence(record):
            requests += 1
            people.add(record.user)
            conversations.add((record.user, record.conversation or record.session_id or record.request_id))
        elif is_rating(record):
            ratings += 1
    begun = datetime.fromisoformat(first) if first else since
    hours = max((now - begun).total_seconds() / 3600, SHORTEST_H)
    return Audience(len(people), len(conversations), requests, ratings, hours)


def _met_errors(by_unit: Mapping[str, Sequence[RequestRecord]]) -> int:
    return sum(any(request.outcome.failed for request in mine) for mine in by_unit.values())


def _shares(by_unit: Mapping[str, Sequence[RequestRecord]], happened: Callable[[RequestRecord], bool]) -> Shares:
    return Shares(len(by_unit), math.fsum(fmean(map(happened, mine)) for mine in by_unit.values()))


def _unit_means(ratings: Iterable[tuple[str, FeedbackRecord]]) -> list[float]:
    """The mean rating of each unit."""
    by_unit: dict[str, list[int]] = {}
    for key, rating in ratings:
        if rating.stars is not None:
            by_unit.setdefault(key, []).append(rating.stars)
    return [fmean(mine) for mine in by_unit.values()]


def _opinions(ratings: Iterable[tuple[str, FeedbackRecord]]) -> Opinions:
    """Of units: each counts once, with the mean of its ratings."""
    means = _unit_means(ratings)
    if not means:
        return Opinions()
    return Opinions(len(means), fmean(means), variance(means) if len(means) > 1 else 0.0)


def _metrics(requests: list[Met], ratings: list[FeedbackRecord]) -> VersionMetrics:
    opinions = _opinions((rating.user, rating) for rating in ratings)
    latencies = sorted(latency for latency, _ in requests)
    return VersionMetrics(
        requests=len(requests),
        errors=sum(outcome.failed for _, outcome in requests),
        crashes=sum(outcome is RequestOutcome.CRASH for _, outcome in requests),
        p99_ms=latencies[max(math.ceil(0.99 * len(latencies)) - 1, 0)] if latencies else None,
        ratings=len(ratings),
        satisfaction=opinions.mean if opinions.units else None,
    )
