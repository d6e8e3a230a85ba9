"""What people take out of the collection and put back: events in a log, applied by every curation run.

The preference log is never edited. The newest event of a preference holds. The warehouse admits one
program at a time, so the newest judged pairs are published beside it for pages to read.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec
import pyarrow as pa

from dpo_pipeline.core.admission import LONGEST_REASON
from dpo_pipeline.core.validated_pair import ValidatedPair
from dpo_pipeline.core.votes import Preference, prompt_text, text_key
from dpo_pipeline.errors import ArtifactCorrupt, InvalidRecord
from dpo_pipeline.stores.artifacts import replacing
from dpo_pipeline.stores.log import AppendLog, Position, read_batches

if TYPE_CHECKING:
    from dpo_pipeline.stores.warehouse import Warehouse

SHOWN = 5_000
MAX_LINE_BYTES = 65_536
Text = Annotated[str, msgspec.Meta(min_length=1)]


class Review(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One event of `reviews.jsonl`: somebody takes a preference out, or puts it back."""

    review_id: Text
    recorded_at: Text
    event_id: Text
    action: Literal["exclude", "restore"]
    reason: Annotated[str, msgspec.Meta(min_length=1, max_length=LONGEST_REASON)]
    actor: Text


_decoder = msgspec.json.Decoder(Review)
_judged_decoder = msgspec.json.Decoder(ValidatedPair)


class ReviewLog:
    """Appends events and reads them back; safe from many threads and programs."""

    def __init__(self, path: Path):
        self.path = path
        self._log = AppendLog(path)

    def append(self, review: Review) -> None:
        """On return it is on disk.

        Raises:
            LogWriteError: nothing was recorded.
        """
        self._log.append(msgspec.json.encode(review))

    def newest(self) -> dict[str, Review]:
        """The event that holds, by the preference's event id.

        Raises:
            InvalidRecord: a line is no review. It may have excluded a pair, so nothing goes on without it.
        """
        found: dict[str, Review] = {}
        for batch in read_batches(self.path, Position(), MAX_LINE_BYTES):
            for line in batch.lines:
                review = _decode(self.path, line.offset, line.data)
                found[review.event_id] = review
        return found


def _decode(path: Path, offset: int, line: bytes | None) -> Review:
    try:
        return _decoder.decode(line or b"")
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise InvalidRecord(
            f"{path}, byte {offset}: not a review ({error}). Fix or remove that line; launch `ingest_and_validate`."
        ) from error


def apply_reviews(warehouse: "Warehouse", log: Path, table: Path) -> Counter[str]:
    """Bring the warehouse's exclusions up to the log and publish the newest judged pairs.

    The results stay as they were judged, so a warehouse that is rebuilt comes to the same result.

    Returns:
        Valid pairs that are excluded, by category.
    """
    reviews = ReviewLog(log).newest()
    excluded = {name: review.reason for name, review in reviews.items() if review.action == "exclude"}
    taken_out = _exclude(warehouse, excluded)
    publish_validated_pairs(table, newest_validated_pairs(warehouse, excluded))
    return taken_out


def _exclude(warehouse: "Warehouse", excluded: Mapping[str, str]) -> Counter[str]:
    """Replace the table of exclusions, found by the key of the event id and then by the id itself."""
    wanted = pa.table(
        {
            "event_id": pa.array(list(excluded), pa.string()),
            "event_key": pa.array([text_key(name) for name in excluded], pa.int64()),
            "reason": pa.array(list(excluded.values()), pa.string()),
        }
    )
    connection = warehouse.connection
    connection.register("wanted_exclusions", wanted)
    try:
        with warehouse.transaction():
            connection.execute("delete from exclusions")
            connection.execute(
                "insert into exclusions select p.sequence, w.reason from preferences p "
                "join wanted_exclusions w on p.event_key = w.event_key and p.event_id = w.event_id"
            )
    finally:
        connection.unregister("wanted_exclusions")
    rows = connection.execute(
        "select category, count(*) from preferences join validations using (sequence) join exclusions using (sequence) "
        "where valid group by category"
    ).fetchall()
    return Counter(dict(rows))


def newest_validated_pairs(
    warehouse: "Warehouse", excluded: Mapping[str, str], limit: int = SHOWN
) -> list[ValidatedPair]:
    """The newest judged preferences, newest first.

    Args:
        excluded: reasons by event id.
    """
    rows = warehouse.connection.execute(
        "select failed, event_id, log_offset, line_bytes from preferences join validations using (sequence) "
        "where sequence > (select max(sequence) from validations) - ? order by sequence desc",
        [limit],
    ).fetchall()
    events = warehouse.events([row[1:] for row in rows])
    return [
        _judged(event, tuple(row[0]), excluded.get(event.event_id)) for row, event in zip(rows, events, strict=True)
    ]


def _judged(event: Preference, failed: tuple[str, ...], reason: str | None) -> ValidatedPair:
    shown = {each.name: getattr(event, each.name) for each in fields(ValidatedPair) if hasattr(event, each.name)}
    pair = ValidatedPair(**{**shown, "prompt": prompt_text(event.prompt), "failed": failed})
    return pair if reason is None else pair.reviewed("exclude", reason)


def publish_validated_pairs(path: Path, pairs: Iterable[ValidatedPair]) -> None:
    with replacing(path) as file:
        for pair in pairs:
            file.write(msgspec.json.encode(pair) + b"\n")


def read_validated_pairs(path: Path) -> Iterator[ValidatedPair]:
    """The pairs published by the newest curation run, newest first; none before the first run.

    One at a time: serving looks through thousands of them for the ten that a page shows.

    Raises:
        ArtifactCorrupt: a line is no judged pair.
    """
    if not path.exists():
        return
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            try:
                yield _judged_decoder.decode(line)
            except (msgspec.MsgspecError, UnicodeDecodeError) as error:
                raise ArtifactCorrupt(
                    f"{path}, line {number}: not a judged pair ({error}). Delete the file and launch the job "
                    "`ingest_and_validate`."
                ) from error
