"""Whether a sensor asks for a run now: by what became of the runs that were asked for by the same cause.

A cause is what made a run due, such as a crossed threshold or one epoch of a rollout. It is asked for at once, and
again while it is there: after a run that succeeded when its interval is over, after one that failed or was cancelled
when `AGAIN_S` have passed since, or its interval, if that is shorter. A run key is the cause and the run that it had
last, so that Dagster starts each once.
"""

import math
import time
from dataclasses import dataclass

import dagster as dg

from dpo_pipeline.assets.partitions import VERSIONS

AGAIN_S = 600.0
UNFINISHED = (
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
)
CAUSE, WHY = "cause", "why"
LONGEST_WHY = 200


@dataclass(frozen=True)
class Work:
    """Runs that must not meet: those of some jobs, and those in which a person materializes some assets."""

    jobs: frozenset[str]
    assets: frozenset[dg.AssetKey] = frozenset()


@dataclass(frozen=True)
class Cause:
    """What made a run due.

    `key` is the same as long as it is the same cause, `why` says it in words. `partition` is the version concerned,
    if any; `job` is needed where a sensor has several. `once`: one run tells all there is to tell, however it ends.
    """

    key: str
    why: str = ""
    partition: str | None = None
    job: str | None = None
    once: bool = False


def launch(
    instance: dg.DagsterInstance,
    cause: Cause,
    work: Work,
    every_s: float = AGAIN_S,
) -> dg.SensorResult | dg.SkipReason:
    """The run that a cause asks for, or why there is none now.

    Args:
        work: no run is asked for while one of these is queued or running.
        every_s: seconds between two runs of the cause, where they succeed.
    """
    if running := unfinished(instance, work):
        return dg.SkipReason(f"run {running.run_id[:8]} is at it")
    last = "1"
    if newest := next(iter(instance.get_run_records(dg.RunsFilter(tags={CAUSE: cause.key}), limit=1)), None):
        run, wait_s = newest.dagster_run, seconds_to_wait(newest, time.time(), every_s)
        if run.status in UNFINISHED:
            return dg.SkipReason(f"run {run.run_id[:8]} is at it")
        if cause.once or wait_s > 0:
            never = cause.once or math.isinf(wait_s)
            again = "it is not asked for again" if never else f"the next is due in {wait_s:.0f} s"
            return dg.SkipReason(f"run {run.run_id[:8]} ended with {run.status.value}; {again}")
        # Its id, not a number counted up: whoever executes a run again copies its tags.
        last = run.run_id[:8]
    return dg.SensorResult(
        run_requests=[
            dg.RunRequest(
                run_key=f"{cause.key}#{last}",
                partition_key=cause.partition,
                job_name=cause.job,
                tags={CAUSE: cause.key, WHY: cause.why[:LONGEST_WHY] or cause.key},
            )
        ],
        # Whoever deletes Dagster's folder deletes the partitions with it.
        dynamic_partitions_requests=[VERSIONS.build_add_request([cause.partition])] if cause.partition else [],
    )


def seconds_to_wait(newest: dg.RunRecord, now: float, every_s: float) -> float:
    """Until a cause is asked for again; 0 or less: now.

    Args:
        newest: the last run of the cause, finished.
        now: seconds since 1970.
    """
    if newest.dagster_run.status == dg.DagsterRunStatus.SUCCESS:
        return newest.create_timestamp.timestamp() + every_s - now
    return (newest.end_time or newest.update_timestamp.timestamp()) + min(every_s, AGAIN_S) - now


def unfinished(instance: dg.DagsterInstance, work: Work) -> dg.DagsterRun | None:
    """A queued or running run that is of this work."""
    for run in instance.get_runs(dg.RunsFilter(statuses=list(UNFINISHED))):
        if run.job_name in work.jobs or work.assets.intersection(run.asset_selection or ()):
            return run
    return None
