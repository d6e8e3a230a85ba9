"""Ends Dagster's runs whose process is gone: after a power cut nobody else would, and their sensors wait for them.

Dagster's default launcher cannot be asked whether a run's process lives; a run says its process id when it starts.
"""

import re

import dagster as dg
import psutil

UNFINISHED = (dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING)
_STARTED = re.compile(r"Started process for run \(pid: (\d+)\)")
SLACK_S = 60.0


def fail_lost_runs(instance: dg.DagsterInstance) -> list[str]:
    """Mark them as failed, so that they are started again where retries allow; returns their ids.

    Called before the daemon begins, when none of its runs can be about to start.
    """
    lost = []
    for record in instance.get_run_records(filters=dg.RunsFilter(statuses=list(UNFINISHED))):
        run = record.dagster_run
        if not _lives(instance, run.run_id, record.start_time):
            instance.report_run_failed(run, "Its process is gone: the machine or the program that ran it went down.")
            lost.append(run.run_id)
    return lost


def _lives(instance: dg.DagsterInstance, run_id: str, started: float | None) -> bool:
    """Whether the process that the run named is there; another one may have got its number since."""
    entries = instance.all_logs(run_id, of_type=dg.DagsterEventType.ENGINE_EVENT)
    said = (_STARTED.search(entry.dagster_event.message or "") for entry in entries if entry.dagster_event)
    for match in filter(None, said):
        try:
            began = psutil.Process(int(match[1])).create_time()
        except psutil.NoSuchProcess:
            continue
        if started is None or began <= started + SLACK_S:
            return True
    return False
