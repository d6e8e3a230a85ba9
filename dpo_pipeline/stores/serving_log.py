"""The serving log: one line a request or feedback, a file a day."""

import itertools
import logging
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from operator import itemgetter
from pathlib import Path

import msgspec

from dpo_pipeline.core.identity import Identity
from dpo_pipeline.core.serving_records import FeedbackRecord, Record, RequestRecord, RequestSource
from dpo_pipeline.core.votes import is_moment
from dpo_pipeline.errors import LogWriteError
from dpo_pipeline.stores.log import FILES, Log, Logs
from dpo_pipeline.stores.log_reading import days_of
from dpo_pipeline.stores.write_behind import WriteBehind


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


_decoder = msgspec.json.Decoder(RequestRecord | FeedbackRecord | _Rating | _Correction)
log = logging.getLogger(__name__)


class ServingLog:
    """Appends to the file of the day. Feedback is synced like votes; requests follow a moment later."""

    def __init__(self, directory: Path, logs: Logs = FILES):
        self.directory, self._logs = directory, logs
        self._feedback: tuple[str, Log] | None = None
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
            self._feedback = day, self._logs.open(self._path(day))
        self._feedback[1].append(msgspec.json.encode(record))

    def append_request(self, record: RequestRecord) -> None:
        self._behind.put(record)

    def _write_requests(self, records: list[RequestRecord]) -> None:
        lines = [(record.recorded_at[:10], msgspec.json.encode(record)) for record in records]
        written = 0
        for day, group in itertools.groupby(lines, key=itemgetter(0)):
            of_day = [line for _, line in group]
            try:
                self._logs.open(self._path(day), durable=False).append_all(of_day)
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
