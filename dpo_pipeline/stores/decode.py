"""From bytes of the log to columns of the warehouse: decoded, keyed, validated as far as one vote alone tells.

That is most of the work of ingest, and it needs neither the warehouse nor other votes: any piece of
the log can be done by itself. Texts stay in the log: a row knows where its line stands. Who does
which piece belongs to `stores.decode_pool`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path

import pyarrow as pa

from dpo_pipeline.core.quality import vote_features
from dpo_pipeline.core.votes import Preference, decode_preference, line_key, text_key
from dpo_pipeline.errors import InvalidRecord
from dpo_pipeline.settings import QualityCriteria
from dpo_pipeline.stores.log_reading import Line, LineBatch, Position, read_batches

HEAD_CHARACTERS = 200
# Fields of a vote that are columns of text as they stand.
_TEXTS = (
    "event_id", "recorded_at", "comparison_id", "session_id", "category", "model_a", "model_b",
    "vote", "annotator", "source",
)  # fmt: skip
VOTE_COLUMNS = pa.schema(
    {
        **dict.fromkeys(_TEXTS, pa.string()),
        "log_offset": pa.int64(),
        "line_bytes": pa.int64(),
        "event_key": pa.int64(),
        "line_key": pa.int64(),
        "left_side": pa.string(),
        "propensity": pa.float64(),
        "anonymous": pa.bool_(),
        "proven": pa.bool_(),
        "steered": pa.bool_(),
        "pair_key": pa.int64(),
        "first_won": pa.bool_(),
        "failed_alone": pa.string(),
        "criteria_key": pa.int64(),
    }
)


@dataclass(frozen=True)
class Task:
    """A piece of the log to decode, one of its `spans`."""

    path: str
    start: Position
    until: int
    max_line_bytes: int
    criteria: QualityCriteria


@dataclass(frozen=True)
class Quarantined:
    """A line that is no event: where it stands in the log and why. `head` is its beginning, as text."""

    offset: int
    length: int
    reason: str
    head: str


@dataclass(frozen=True)
class Piece:
    """What a piece of the log holds: votes in the columns of `VOTE_COLUMNS`, lines that are none, and where it ends."""

    votes: pa.Table
    bad: list[Quarantined]
    end: Position


def read_piece(task: Task) -> Piece:
    """Read and decode one piece of the log.

    Raises:
        LogReplaced: the log is not the one that the task was made for.
    """
    batches, bad, end = [], [], task.start
    for batch in read_batches(Path(task.path), task.start, task.max_line_bytes, until=task.until):
        lines, preferences, refused = _decode_lines(batch, task.max_line_bytes)
        batches.append(_columns(lines, preferences, task.criteria))
        bad += refused
        end = batch.end
    # One chunk: DuckDB takes in several small ones at a third more cost.
    return Piece(pa.Table.from_batches(batches, VOTE_COLUMNS).combine_chunks(), bad, end)


def votes_of(batch: LineBatch) -> Iterator[Preference]:
    """The events of a batch, for those who only look on: a line that is none is left to curation, which says why."""
    for line in batch.lines:
        try:
            yield decode_preference(line.data or b"")
        except InvalidRecord:
            continue


def criteria_key(criteria: QualityCriteria) -> int:
    """Tells whether `failed_alone` was found under these criteria."""
    return text_key(criteria.model_dump_json())


def _decode_lines(batch: LineBatch, max_line_bytes: int) -> tuple[list[Line], list[Preference], list[Quarantined]]:
    """Lines that are votes, those votes, and the lines that are none."""
    lines, preferences, bad = [], [], []
    for line in batch.lines:
        if line.data is None:
            reason = f"longer than {max_line_bytes} bytes"
            bad.append(Quarantined(line.offset, line.length, reason, ""))
        elif line.data.strip():
            try:
                preferences.append(decode_preference(line.data))
                lines.append(line)
            except InvalidRecord as error:
                head = line.data[:HEAD_CHARACTERS].decode("utf-8", errors="replace")
                bad.append(Quarantined(line.offset, line.length, str(error), head))
    return lines, preferences, bad


def _columns(lines: Sequence[Line], preferences: Sequence[Preference], criteria: QualityCriteria) -> pa.RecordBatch:
    ballots = [vote_features(preference, criteria) for preference in preferences]
    columns = {
        **{name: list(map(attrgetter(name), preferences)) for name in _TEXTS},
        "log_offset": [line.offset for line in lines],
        "line_bytes": [line.length for line in lines],
        "event_key": [text_key(preference.event_id) for preference in preferences],
        "line_key": [line_key(line.data or b"") for line in lines],
        "left_side": [preference.left for preference in preferences],
        "propensity": [preference.propensity for preference in preferences],
        "anonymous": [preference.is_anonymous for preference in preferences],
        "proven": [preference.is_proven for preference in preferences],
        "steered": [preference.steered for preference in preferences],
        "pair_key": [ballot.pair for ballot in ballots],
        "first_won": [ballot.first_won for ballot in ballots],
        "failed_alone": [" ".join(ballot.failed) for ballot in ballots],
        "criteria_key": [criteria_key(criteria)] * len(ballots),
    }
    return pa.record_batch([pa.array(columns[field.name], field.type) for field in VOTE_COLUMNS], schema=VOTE_COLUMNS)
