"""Removes Dagster's records of old runs: sensors launch one a minute while a version is rolled out, 100 kB each.

What a version is made of lies in ledger and MLflow; the runs that made it are kept.
"""

import shutil
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import dagster as dg

FINISHED = (dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED)
AT_ONCE = 200


def delete_old_runs(instance: dg.DagsterInstance, jobs: Sequence[str], before: datetime, home: Path) -> int:
    """Delete the finished runs of these jobs that were created before a moment; returns how many.

    Args:
        home: DAGSTER_HOME. Dagster leaves a run's emptied event file and its output there.
    """
    deleted = 0
    for job in jobs:
        old = dg.RunsFilter(job_name=job, statuses=list(FINISHED), created_before=before)
        while runs := instance.get_runs(filters=old, limit=AT_ONCE):
            for run in runs:
                instance.delete_run(run.run_id)
                for path in (home / "history" / "runs").glob(f"{run.run_id}.db*"):
                    path.unlink(missing_ok=True)
                shutil.rmtree(home / "storage" / run.run_id, ignore_errors=True)
            deleted += len(runs)
    return deleted
