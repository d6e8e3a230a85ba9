"""From the log into the warehouse, and from there to verdicts: incremental, batch by batch.

Run again after a crash, both go on where the last whole batch ended.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from dpo_pipeline.core.quality import judge
from dpo_pipeline.core.votes import Preference, decode_preference
from dpo_pipeline.errors import InvalidRecord
from dpo_pipeline.settings import QualityCriteria
from dpo_pipeline.stores.log import AppendLog, Batch, Position, read_batches
from dpo_pipeline.stores.warehouse import Quarantined, Warehouse

LOG = "prefs"
JUDGE_BATCH = 20_000
HEAD_CHARACTERS = 200


@dataclass
class IngestReport:
    """What one run did; `reasons` counts quarantined lines."""

    recorded: int = 0
    repeats: int = 0
    quarantined: int = 0
    reasons: dict[str, int] = field(default_factory=dict)
    end: Position = field(default_factory=Position)


def ingest(warehouse: Warehouse, log: Path, quarantine: Path, max_line_bytes: int) -> IngestReport:
    """Read what the log has gained since the last time.

    A line that is no event is kept in the warehouse and in the quarantine file with its place and
    the reason; the rest goes on.

    Raises:
        LogReplaced: the log shrank or is another file than before.
    """
    report = IngestReport(end=warehouse.position(LOG))
    for batch in read_batches(log, report.end, max_line_bytes):
        preferences, bad = _decode(batch, max_line_bytes)
        if bad:
            AppendLog(quarantine).append_all([msgspec.json.encode(item) for item in bad])
        repeats = warehouse.add_preferences(LOG, preferences, bad, batch.end)
        report.recorded += len(preferences) - repeats
        report.repeats += repeats
        report.quarantined += len(bad)
        for item in bad:
            report.reasons[item.reason] = report.reasons.get(item.reason, 0) + 1
        report.end = batch.end
    return report


def judge_new(
    warehouse: Warehouse, criteria: QualityCriteria, progress: Callable[[int], None] = lambda done: None
) -> int:
    """Give every preference without a verdict its verdict; returns how many."""
    done = 0
    for rows in _unjudged(warehouse):
        memory = warehouse.memory_for(key for _, key, _ in rows)
        warehouse.add_verdicts([(number, p, judge(p, criteria, memory, key)) for number, key, p in rows])
        done += len(rows)
        progress(done)
    return done


def _unjudged(warehouse: Warehouse) -> Iterator[list[tuple[int, int, Preference]]]:
    while rows := warehouse.unjudged(JUDGE_BATCH):
        yield rows


def _decode(batch: Batch, max_line_bytes: int) -> tuple[list[Preference], list[Quarantined]]:
    preferences, bad = [], []
    for line in batch.lines:
        if line.data is None:
            reason = f"longer than {max_line_bytes} bytes"
            bad.append(Quarantined(line.offset, line.length, reason, ""))
        elif line.data.strip():
            try:
                preferences.append(decode_preference(line.data))
            except InvalidRecord as error:
                head = line.data[:HEAD_CHARACTERS].decode("utf-8", errors="replace")
                bad.append(Quarantined(line.offset, line.length, str(error), head))
    return preferences, bad
