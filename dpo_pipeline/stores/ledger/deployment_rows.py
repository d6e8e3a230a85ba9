"""The rollout and its decisions as rows."""

import json
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import sqlalchemy as sa

from dpo_pipeline.stores.ledger.records import DecisionRecord, DeploymentState
from dpo_pipeline.stores.ledger.tables import DEPLOYMENT


def stale(expected: int, found: int) -> str:
    return (
        f"The rollout is at epoch {found}; this decision was made on epoch {expected}. "
        "Somebody else moved it first: look again and decide on what is there now."
    )


def what_it_rested_on(reasons: Sequence[str], evidence: dict[str, Any], moment: str) -> dict[str, str]:
    return {
        "reasons": json.dumps(list(reasons), ensure_ascii=False),
        "evidence": json.dumps(evidence, ensure_ascii=False),
        "decided_at": moment,
    }


def decision_record(row: sa.RowMapping) -> DecisionRecord:
    read = {"reasons": tuple(json.loads(row["reasons"])), "evidence": json.loads(row["evidence"])}
    return DecisionRecord(**(dict(row) | read))


def deployment_state(connection: sa.Connection) -> DeploymentState:
    columns = [DEPLOYMENT.c[field.name] for field in fields(DeploymentState)]
    row = connection.execute(sa.select(*columns)).mappings().first()
    if row is None:
        return DeploymentState(0, None, None, None, None, None)
    return DeploymentState(**{**row, "plan": json.loads(row["plan"]) if row["plan"] else None})
