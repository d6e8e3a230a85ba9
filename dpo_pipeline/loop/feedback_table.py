"""People's feedback as a table, for Dagster, notebooks and DuckDB; the serving log is what counts."""

from collections import Counter
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec

from dpo_pipeline.core.serving_records import FeedbackRecord
from dpo_pipeline.stores.artifacts import replacing
from dpo_pipeline.stores.serving_log import all_feedback

COLUMNS = ("event_id", "recorded_at", "request_id", "user", "version", "signal", "value", "prompt", "answer", "source")
BATCH = 20_000
"""Rows in memory at once."""


def write_feedback(serving_log_dir: Path, path: Path) -> Counter[str]:
    """Write all of it as Parquet, oldest first, published by rename; returns how many events each signal has."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema([(name, pa.string()) for name in COLUMNS])
    counts: Counter[str] = Counter()
    path.parent.mkdir(parents=True, exist_ok=True)
    records = all_feedback(serving_log_dir)
    with replacing(path) as file, pq.ParquetWriter(file, schema) as writer:
        while rows := list(map(_row, islice(records, BATCH))):
            counts.update(row["signal"] for row in rows)
            writer.write_table(pa.Table.from_pylist(rows, schema))
    return counts


def _row(record: FeedbackRecord) -> dict[str, Any]:
    """Everything as a text; a conversation as JSON."""
    prompt = record.prompt if isinstance(record.prompt, str) else msgspec.json.encode(record.prompt).decode()
    told = {name: getattr(record, name) for name in COLUMNS}
    return told | {"prompt": prompt, "value": str(record.value)}
