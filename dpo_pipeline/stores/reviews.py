"""What is taken out of the collection, by people or after a rollback, and put back: events in a log, applied by every
curation run.

The preference log is never edited. The newest event of a preference holds, but what the voter took back stays so. The
warehouse admits one
program at a time, so the newest validated pairs are published beside it for pages to read.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import pyarrow as pa

from dpo_pipeline.core.admission import LONGEST_REASON
from dpo_pipeline.core.curation import TakenOut
from dpo_pipeline.core.validated_pair import TAKEN_OUT, ReviewAction, ValidatedPair
from dpo_pipeline.core.votes import Preference, Text, prompt_text, text_key
from dpo_pipeline.errors import ArtifactCorrupt, InvalidRecord
from dpo_pipeline.stores.artifacts import replacing
from dpo_pipeline.stores.log import FILES, Logs
from dpo_pipeline.stores.log_reading import Position, read_batches

if TYPE_CHECKING:
    from dpo_pipeline.stores.warehouse import Warehouse

SHOWN = 5_000
MAX_LINE_BYTES = 65_536


class Review(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One event of `reviews.jsonl`: a person takes a preference out, a rollback sets it aside, people put it back or
    keep it as it is, or whoever voted takes it back.
    """

    review_id: Text
    recorded_at: Text
    event_id: Text
    action: ReviewAction
    reason: Annotated[str, msgspec.Meta(min_length=1, max_length=LONGEST_REASON)]
    actor: Text


_decoder = msgspec.json.Decoder(Review)
_judged_decoder = msgspec.json.Decoder(ValidatedPair)


class ReviewLog:
    """Appends events and reads them back; safe from many threads and programs."""

    def __init__(self, path: Path, logs: Logs = FILES):
        self.path = path
        self._log = logs.open(path)

    def append(self, review: Review) -> None:
        """On return it is on disk.

        Raises:
            LogWriteError: nothing was recorded.
        """
        self.append_all([review])

    def append_all(self, reviews: Iterable[Review]) -> None:
        """All with one sync; otherwise as `append`."""
        if lines := [msgspec.json.encode(review) for review in reviews]:
            self._log.append_all(lines)

    def review_ids(self) -> set[str]:
        """Of every event; raises as `newest`."""
        return {review.review_id for review in self._all()}

    def newest(self) -> dict[str, Review]:
        """The event that holds, by the preference's event id.

        Raises:
            InvalidRecord: a line is no review. It may have excluded a pair, so nothing goes on without it.
        """
        found: dict[str, Review] = {}
        for review in self._all():
            if review.event_id not in found or found[review.event_id].action != "withdraw":
                found[review.event_id] = review
        return found

    def taken_out(self) -> dict[str, Review]:
        """As `newest`, of what is not to be trained on now."""
        return {name: review for name, review in self.newest().items() if review.action in TAKEN_OUT}

    def withdrawn(self) -> set[str]:
        """Event ids of votes that were taken back."""
        return set(withdrawn_since(self.path, Position())[0])

    def _all(self) -> Iterator[Review]:
        for batch in read_batches(self.path, Position(), MAX_LINE_BYTES):
            for line in batch.lines:
                yield _decode(self.path, line.offset, line.data)


def withdrawn_since(log: Path, start: Position) -> tuple[list[str], Position]:
    """Event ids of votes that were taken back behind a place of the log, and the place up to which it was read.

    A line that is no review takes none back: curation says where it is, and whoever votes need not wait for its end.

    Raises:
        LogReplaced: the log is another one than before.
    """
    found, end = list[str](), start
    for batch in read_batches(log, start, MAX_LINE_BYTES):
        for line in batch.lines:
            if line.data and b'"withdraw"' in line.data:
                with suppress(msgspec.MsgspecError, UnicodeDecodeError):
                    review = _decoder.decode(line.data)
                    found += [review.event_id] if review.action == "withdraw" else []
        end = batch.end
    return found, end


def criteria_of(taken_out: Mapping[str, Review]) -> dict[str, str]:
    """Why each was taken out, as a criterion that it fails, by event id."""
    return {event_id: TAKEN_OUT[review.action] for event_id, review in taken_out.items()}


def _decode(path: Path, offset: int, line: bytes | None) -> Review:
    try:
        return _decoder.decode(line or b"")
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise InvalidRecord(
            f"{path}, byte {offset}: not a review ({error}). Fix or remove that line; launch `ingest_and_validate`."
        ) from error


def apply_reviews(warehouse: "Warehouse", log: Path, table: Path) -> TakenOut:
    """Bring the warehouse's exclusions up to the log and publish the newest validated pairs.

    The results stay as they were, so a warehouse that is rebuilt comes to the same result.
    """
    taken_out = ReviewLog(log).taken_out()
    _take_out(warehouse, list(taken_out.values()))
    publish_validated_pairs(table, newest_validated_pairs(warehouse, taken_out))
    return warehouse.taken_out()


def _take_out(warehouse: "Warehouse", reviews: Sequence[Review]) -> None:
    """Replace the table of exclusions, found by the key of the event id and then by the id itself."""
    wanted = pa.table(
        {
            "event_id": pa.array([review.event_id for review in reviews], pa.string()),
            "event_key": pa.array([text_key(review.event_id) for review in reviews], pa.int64()),
            "reason": pa.array([review.reason for review in reviews], pa.string()),
            "action": pa.array([review.action for review in reviews], pa.string()),
        }
    )
    connection = warehouse.connection
    connection.register("wanted_exclusions", wanted)
    try:
        with warehouse.transaction():
            connection.execute("delete from exclusions")
            connection.execute(
                "insert into exclusions select p.sequence, w.reason, w.action from preferences p "
                "join wanted_exclusions w on p.event_key = w.event_key and p.event_id = w.event_id"
            )
    finally:
        connection.unregister("wanted_exclusions")


def newest_validated_pairs(
    warehouse: "Warehouse", taken_out: Mapping[str, Review], limit: int = SHOWN
) -> list[ValidatedPair]:
    """The newest validated preferences, newest first, and beside them as many of those that are set aside: people go
    through these, however old they are.

    Args:
        taken_out: by event id.
    """
    rows = warehouse.connection.execute(
        "select failed, event_id, log_offset, line_bytes from preferences join validations using (sequence) "
        "where sequence > (select max(sequence) from validations) - ? or sequence in "
        "(select sequence from exclusions where action = 'set_aside' order by sequence desc limit ?) "
        "order by sequence desc",
        [limit, limit],
    ).fetchall()
    events = warehouse.events([row[1:] for row in rows])
    return [
        _judged(event, tuple(row[0]), taken_out.get(event.event_id)) for row, event in zip(rows, events, strict=True)
    ]


def _judged(event: Preference, failed: tuple[str, ...], review: Review | None) -> ValidatedPair:
    shown = {each.name: getattr(event, each.name) for each in fields(ValidatedPair) if hasattr(event, each.name)}
    pair = ValidatedPair(**{**shown, "prompt": prompt_text(event.prompt), "failed": failed})
    return pair if review is None else pair.reviewed(review.action, review.reason)


def publish_validated_pairs(path: Path, pairs: Iterable[ValidatedPair]) -> None:
    with replacing(path) as file:
        for pair in pairs:
            file.write(msgspec.json.encode(pair) + b"\n")


def read_validated_pairs(path: Path) -> Iterator[ValidatedPair]:
    """The pairs published by the newest curation run, newest first; none before the first run.

    One at a time: serving looks through thousands of them for the ten that a page shows.

    Raises:
        ArtifactCorrupt: a line is no validated pair.
    """
    if not path.exists():
        return
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            try:
                yield _judged_decoder.decode(line)
            except (msgspec.MsgspecError, UnicodeDecodeError) as error:
                raise ArtifactCorrupt(
                    f"{path}, line {number}: not a validated pair ({error}). Delete the file and launch the job "
                    "`ingest_and_validate`."
                ) from error
