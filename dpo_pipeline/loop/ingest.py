"""From the log into the warehouse, and from there to validation results: incremental, batch by batch.

Run again after a crash, both go on where the last whole batch ended.
"""

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

import msgspec
from msgspec.structs import replace

from dpo_pipeline.core.quality import VoteFeatures, failed_criteria, validate
from dpo_pipeline.settings import QualityCriteria
from dpo_pipeline.stores.decode import Piece, criteria_key
from dpo_pipeline.stores.decode_pool import read_log
from dpo_pipeline.stores.log import AppendLog
from dpo_pipeline.stores.log_reading import Position
from dpo_pipeline.stores.warehouse import Cases, Warehouse

LOG = "prefs"
# Two of DuckDB's row groups: whole ones go past the write-ahead log, and small leftovers would be merged at the end.
COMMIT_ROWS = 2 * 122_880
VALIDATION_BATCH = 50_000


@dataclass
class IngestReport:
    """What one run did; `reasons` counts quarantined lines."""

    recorded: int = 0
    repeats: int = 0
    quarantined: int = 0
    reasons: dict[str, int] = field(default_factory=dict)
    end: Position = field(default_factory=Position)


def ingest(warehouse: Warehouse, quarantine: Path, max_line_bytes: int, criteria: QualityCriteria) -> IngestReport:
    """Read what its log has gained since the last time, and look at each vote by itself.

    A line that is no event is kept in the warehouse and in the quarantine file with its place and
    the reason; the rest goes on.

    Raises:
        LogReplaced: the log shrank or is another file than before.
    """
    report = IngestReport(end=warehouse.position(LOG))
    with closing(read_log(warehouse.log, report.end, max_line_bytes, criteria)) as pieces:
        for first in pieces:
            with warehouse.transaction():
                rows = 0
                for piece in chain([first], pieces):
                    _store(warehouse, piece, quarantine, report)
                    rows += len(piece.votes)
                    if rows + len(piece.votes) > COMMIT_ROWS:
                        break
    return report


def _store(warehouse: Warehouse, piece: Piece, quarantine: Path, report: IngestReport) -> None:
    if piece.bad:
        AppendLog(quarantine).append_all([msgspec.json.encode(item) for item in piece.bad])
    repeats = warehouse.add_preferences(LOG, piece)
    report.recorded += len(piece.votes) - repeats
    report.repeats += repeats
    report.quarantined += len(piece.bad)
    for item in piece.bad:
        report.reasons[item.reason] = report.reasons.get(item.reason, 0) + 1
    report.end = piece.end


def validate_new(
    warehouse: Warehouse, criteria: QualityCriteria, progress: Callable[[int], None] = lambda done: None
) -> int:
    """Give every preference without a validation result its own; returns how many."""
    done = 0
    while (cases := warehouse.unvalidated(VALIDATION_BATCH)).ballots:
        ballots = _under(criteria, cases, warehouse)
        memory = warehouse.history_for(cases)
        warehouse.add_validation_results(cases, [validate(ballot, criteria, memory) for ballot in ballots])
        done += len(ballots)
        progress(done)
    return done


def _under(criteria: QualityCriteria, cases: Cases, warehouse: Warehouse) -> list[VoteFeatures]:
    """The ballots of these votes; where they were made under other criteria than today's, made again."""
    key = criteria_key(criteria)
    if all(other == key for other in cases.criteria_keys):
        return cases.ballots
    texts = warehouse.texts(cases.sequences[0], cases.sequences[-1])
    return [
        replace(ballot, failed=tuple(failed_criteria(*texts[sequence], criteria))) if sequence in texts else ballot
        for sequence, ballot in zip(cases.sequences, cases.ballots, strict=True)
    ]
