"""The serving log: one line a request or rating, a file a day, and the metrics of a version in a window."""

import itertools
import math
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

import msgspec

from dpo_pipeline.core.rollout import Metrics
from dpo_pipeline.stores.log import AppendLog
from dpo_pipeline.stores.write_behind import WriteBehind

Outcome = Literal["ok", "error", "crash", "timeout"]


class RequestRecord(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="request"):
    """One answered or failed request; `ttft_ms` is null where nothing was streamed."""

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
    outcome: Outcome


class RatingRecord(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="rating"):
    """A person's rating of one request: 1 to 5; a thumb counts as 5 or 1."""

    event_id: str
    recorded_at: str
    request_id: str
    user: str
    version: str
    rating: int


class CorrectionRecord(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="correction"):
    """What the answer should have been: a demonstration."""

    event_id: str
    recorded_at: str
    request_id: str
    user: str
    version: str
    prompt: str
    correction: str


Record = RequestRecord | RatingRecord | CorrectionRecord
_decoder = msgspec.json.Decoder(Record)


class ServingLog:
    """Appends to the file of the day. Ratings and corrections are synced like votes; requests follow a moment later."""

    def __init__(self, directory: Path):
        self.directory = directory
        self._feedback: tuple[str, AppendLog] | None = None
        self._behind = WriteBehind(self._write_requests, "the serving log")

    def close(self) -> None:
        self._behind.close()

    def append(self, record: RatingRecord | CorrectionRecord) -> None:
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
        for day, group in itertools.groupby(records, key=lambda record: record.recorded_at[:10]):
            AppendLog(self._path(day), durable=False).append_all([msgspec.json.encode(record) for record in group])

    def _path(self, day: str) -> Path:
        return self.directory / f"{day}.jsonl"


def read_records(directory: Path, since: str) -> Iterator[Record]:
    """Records at or after `since` (RFC 3339, UTC). A torn last line is left for the next time."""
    day = datetime.fromisoformat(since).astimezone(UTC).date()
    today = datetime.now(UTC).date()
    while day <= today + timedelta(days=1):
        path = directory / f"{day.isoformat()}.jsonl"
        if path.exists():
            for line in path.read_bytes().split(b"\n")[:-1]:
                if line:
                    record = _decoder.decode(line)
                    if record.recorded_at >= since:
                        yield record
        day += timedelta(days=1)


def version_metrics(directory: Path, since: str, versions: list[str]) -> dict[str, Metrics]:
    """What each version did since then; shadow copies are left out."""
    requests: dict[str, list[RequestRecord]] = {name: [] for name in versions}
    ratings: dict[str, list[int]] = {name: [] for name in versions}
    for record in read_records(directory, since):
        if isinstance(record, RequestRecord) and record.version in requests and not record.shadow:
            requests[record.version].append(record)
        elif isinstance(record, RatingRecord) and record.version in ratings:
            ratings[record.version].append(record.rating)
    return {name: _metrics(requests[name], ratings[name]) for name in versions}


def _metrics(requests: list[RequestRecord], ratings: list[int]) -> Metrics:
    latencies = sorted(record.latency_ms for record in requests)
    return Metrics(
        requests=len(requests),
        errors=sum(record.outcome != "ok" for record in requests),
        crashes=sum(record.outcome == "crash" for record in requests),
        p99_ms=latencies[max(math.ceil(0.99 * len(latencies)) - 1, 0)] if latencies else None,
        ratings=len(ratings),
        satisfaction=sum(ratings) / len(ratings) if ratings else None,
    )
