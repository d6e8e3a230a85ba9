"""The Ray backend: a training of a Dagster run as a job of a Ray cluster, through dagster-ray's Pipes client."""

import shlex
import uuid
from contextlib import suppress
from typing import Any

import dagster as dg

from dpo_pipeline.errors import DpoError, SettingsError, WorkerEnded
from dpo_pipeline.ml.remote_training import collect, send, watch
from dpo_pipeline.ml.train_process import ProcessJob, ProcessResult
from dpo_pipeline.settings import Settings

STARTS = 3
"""A job whose process ended without a word, as when something killed it, is started again, and resumes."""


def train_on_ray(context: dg.AssetExecutionContext, settings: Settings, job: ProcessJob) -> ProcessResult:
    """
    Raises:
        DpoError: the training's own; of the store; or WorkerEnded, where the job ended again and again.
        SettingsError: dagster-ray is not installed.
    """
    try:
        from dagster_ray import PipesRayJobClient  # not installed where trainings run here
    except ImportError as error:
        raise SettingsError("DPO_TRAINING__BACKEND=ray needs dagster-ray: run `make scaled`.") from error
    with suppress(DpoError):  # what failed before is tried again
        if (result := collect(settings, job)) is not None:  # a run before this one was killed while it waited
            return result
    name, asked = send(settings, job), settings.training
    ended: Exception | None = None
    for start in range(1, STARTS + 1):
        try:
            # Each reads the log of one job.
            client = PipesRayJobClient(address=asked.ray_address, poll_interval=0.5)
            with watch(settings, job):
                client.run(context=context, submit_job_params=_submitted(settings, name))
        except (dg.DagsterExecutionInterruptedError, DpoError):
            raise
        except Exception as error:  # what Ray has for a job that failed
            ended = error
        if (result := collect(settings, job)) is not None:
            return result
        context.log.warning(f"The Ray job of {name} ended without a result (start {start} of {STARTS}): {ended}")
    raise WorkerEnded(
        f"The Ray job of {name} ended {STARTS} times without a result; the last time: {ended}. Look at its log on "
        f"{asked.ray_address}, then run the step again: it resumes from its last checkpoint."
    ) from ended


def _submitted(settings: Settings, name: str) -> Any:
    """As Ray takes a job; made again for each start, because dagster-ray writes into it."""
    asked = settings.training
    return {
        "entrypoint": shlex.join([asked.ray_python, "-m", "dpo_pipeline.ml.remote_training", name]),
        "entrypoint_num_cpus": asked.ray_cpus,
        "entrypoint_num_gpus": asked.ray_gpus,
        "runtime_env": asked.ray_runtime_env | {"env_vars": _variables(settings)},
        # Not one of dagster-ray's, which it draws from a generator that a training may have seeded.
        "submission_id": f"{name}-{uuid.uuid4().hex[:8]}",
    }


def _variables(settings: Settings) -> dict[str, str]:
    """What the job has to know of this machine's settings, under those of the settings themselves."""
    told = {"DPO_ARTIFACTS_URL": str(settings.artifacts_url), "DPO_PROFILE": settings.profile}
    own: dict[str, str] = settings.training.ray_runtime_env.get("env_vars", {})
    return told | own
