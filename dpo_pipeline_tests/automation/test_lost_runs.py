"""Runs whose process went down with the machine are ended, and only those."""

import os
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest

from dpo_pipeline.automation.lost_runs import fail_lost_runs


@dg.job
def nothing() -> None:
    pass


def started(instance: dg.DagsterInstance, pid: int) -> str:
    """A run as Dagster leaves it once its process has begun."""
    run = instance.create_run_for_job(nothing, status=dg.DagsterRunStatus.STARTING)
    instance.report_engine_event(f"Started process for run (pid: {pid}).", run)
    return str(run.run_id)


@pytest.mark.slow
def test_runs_of_a_process_that_is_gone_are_failed(tmp_path: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        lost, alive = started(instance, gone.pid), started(instance, os.getpid())
        done = instance.create_run_for_job(nothing, status=dg.DagsterRunStatus.SUCCESS)
        assert fail_lost_runs(instance) == [lost]
        statuses = {run.run_id: run.status for run in instance.get_runs()}
        assert statuses[lost] == dg.DagsterRunStatus.FAILURE
        assert statuses[alive] == dg.DagsterRunStatus.STARTING
        assert statuses[done.run_id] == dg.DagsterRunStatus.SUCCESS
        assert fail_lost_runs(instance) == []
