"""Removes Dagster's records of old runs: sensors launch one a minute while a version is rolled out, 100 kB each.

What a version is made of lies in ledger and MLflow; the runs that made it are kept.
"""

import shutil
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import dagster as dg

FINISHED = (dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED)
AT_ONCE = 200


def delete_old_runs(
    instance: dg.DagsterInstance, which: Sequence[Mapping[str, Any]], before: datetime, home: Path
) -> int:
    """Delete finished runs that were created before a moment; returns how many.

    Args:
        which: runs, by what `dg.RunsFilter` knows them by, such as `{"job_name": "decide_rollout"}`.
        home: DAGSTER_HOME. Dagster leaves a run's emptied event file and its output there.
    """
    deleted = 0
    for known_by in which:
        old = dg.RunsFilter(**known_by, statuses=list(FINISHED), created_before=before)
        while runs := instance.get_runs(filters=old, limit=AT_ONCE):
            for run in runs:
                instance.delete_run(run.run_id)
                for path in (home / "history" / "runs").glob(f"{run.run_id}.db*"):
                    path.unlink(missing_ok=True)
                shutil.rmtree(home / "storage" / run.run_id, ignore_errors=True)
            deleted += len(runs)
    return deleted
