"""Versions, rollout state and decisions, in one small transactional database (SQLite, or Postgres by URL).

The truth about what is served. MLflow aliases and the DuckDB tables are projections of it. `versions` has what a
version's life writes, `deployment` the rollout, `tables` the schema, `records` the values that come out.
"""

from dpo_pipeline.core.versions import VersionRecord
from dpo_pipeline.stores.ledger.deployment import Ledger
from dpo_pipeline.stores.ledger.records import (
    DecisionRecord,
    DeploymentState,
    as_json,
    utc_now,
    utc_text,
)
from dpo_pipeline.stores.ledger.version_rows import require_same

__all__ = [
    "DecisionRecord",
    "DeploymentState",
    "Ledger",
    "VersionRecord",
    "as_json",
    "require_same",
    "utc_now",
    "utc_text",
]
