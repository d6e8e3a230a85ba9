"""Small tables as Parquet, published by rename: what pages and people read while programs run."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from dpo_pipeline.stores.artifacts import replacing


def publish_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Rows with the same keys; an empty table where there are none."""
    import pyarrow.parquet as pq  # a tenth of a second that only whoever writes shall pay

    with replacing(path) as file:
        pq.write_table(pa.Table.from_pylist([dict(row) for row in rows]), file)
