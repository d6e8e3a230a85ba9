"""What does a training cost that goes to a Ray cluster through the store, beside the same one here and Ray's own start?

Each turn does three Dagster runs, one after the other: the training in a process of its own, a Ray job that does
nothing, and the training as a Ray job. The head of the cluster, the S3 (moto's server) and the runs share this machine.
In each turn the store has another prefix and the job an empty folder, so that the base model goes there and the adapter
comes back; the one that was trained here is deleted before. What the store alone takes of that is timed apart.
One thread each, as bits depend on how many.
Goals: what is left of the job's time without the other two, 1 s at most; the same sha256. Of each side the fastest turn
counts: other programs only add to it, and on two cores a second of theirs is a second here. All turns are kept.
"""

import argparse
import json
import os
import shlex
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from shutil import rmtree
from typing import Any

import dagster as dg
from inputs import settings_for
from reporting import Goal, report, say, show

from dpo_pipeline.engines import BUCKET, engines
from dpo_pipeline.ml.base_model import ensure_base
from dpo_pipeline.ml.train_process import ProcessJob, ProcessResult, run
from dpo_pipeline.ml.training_plan import sft_job
from dpo_pipeline.ml.worker import Worker
from dpo_pipeline.ray_training import train_on_ray
from dpo_pipeline.settings import Settings
from dpo_pipeline.stores.shared_artifacts import ArtifactStore

TURNS, OVERHEAD_S = 5, 1.0
THREADS = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
Step = Callable[[dg.AssetExecutionContext], ProcessResult | None]


def materialized(step: Step) -> tuple[float, ProcessResult | None]:
    """Seconds of a Dagster run of this one step, and what it returns."""
    found: list[ProcessResult | None] = []

    @dg.asset
    def trained(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
        found.append(step(context))
        return dg.MaterializeResult()

    with dg.DagsterInstance.ephemeral() as instance:
        begin = time.perf_counter()
        done = dg.materialize([trained], instance=instance)
        seconds = time.perf_counter() - begin
    if not done.success:
        raise SystemExit("the run failed; see its log above")
    return seconds, found[0]


def here(job: ProcessJob) -> tuple[float, ProcessResult]:
    """In a process of its own, as a run starts it."""

    def step(context: dg.AssetExecutionContext) -> ProcessResult:
        worker = Worker()
        try:
            with dg.open_pipes_session(
                context, dg.PipesTempFileContextInjector(), dg.PipesTempFileMessageReader()
            ) as session:
                return worker.call(partial(run, job), session.get_bootstrap_env_vars())
        finally:
            worker.close()

    seconds, result = materialized(step)
    assert result
    return seconds, result


def there(settings: Settings, job: ProcessJob) -> tuple[float, ProcessResult]:
    """As a job; the run's own process, which would load the same libraries for its next step, is not started."""
    seconds, result = materialized(lambda context: train_on_ray(context, settings, job))
    assert result
    return seconds, result


def nothing(settings: Settings) -> float:
    """A job of the same cluster, with the same environment, through the same client."""
    from dagster_ray import PipesRayJobClient  # installed by `make scaled`

    asked = settings.training

    def step(context: dg.AssetExecutionContext) -> None:
        submitted: Any = {
            "entrypoint": shlex.join([asked.ray_python, "-c", "pass"]),
            "entrypoint_num_cpus": asked.ray_cpus,
            "runtime_env": asked.ray_runtime_env,
        }
        client = PipesRayJobClient(address=asked.ray_address, poll_interval=0.5)
        client.run(context=context, submit_job_params=submitted)

    return materialized(step)[0]


def on_ray(settings: Settings, variables: dict[str, str], folder: Path, turn: int) -> Settings:
    """With a store and a machine that hold nothing yet."""
    environment: dict[str, Any] = json.loads(variables["DPO_TRAINING__RAY_RUNTIME_ENV"])["env_vars"]
    worker = environment | THREADS | {"DPO_DATA_DIR": str(folder / f"worker-{turn}")}
    told = {
        "backend": "ray",
        "ray_address": variables["DPO_TRAINING__RAY_ADDRESS"],
        "ray_python": sys.executable,
        "ray_runtime_env": {"env_vars": worker},
    }
    moved = {
        "artifacts_url": f"s3://{BUCKET}/turn-{turn}",
        "training": settings.training.model_validate(told),
    }
    return settings.model_copy(update=moved)


def through_the_store(data_dir: Path, folders: list[Path], url: str) -> float:
    """Seconds to bring these folders to another machine by themselves: what the store has of a job's time."""
    with tempfile.TemporaryDirectory() as other:
        ours, theirs = ArtifactStore(url, data_dir), ArtifactStore(url, Path(other))
        begin = time.perf_counter()
        for each in folders:
            ours.push(each)
            theirs.pull(Path(other) / each.relative_to(data_dir))
        return time.perf_counter() - begin


def one_turn(settings: Settings, job: ProcessJob, turn: int) -> dict[str, Any]:
    here_s, ours = here(replace(job, work_dir=f"{job.work_dir}-here-{turn}"))
    folders = [Path(job.base_dir), Path(ours.adapter_dir)]
    store_s = through_the_store(settings.data_dir, folders, f"{settings.artifacts_url}-alone")
    rmtree(ours.adapter_dir)
    nothing_s = nothing(settings)
    there_s, theirs = there(settings, replace(job, work_dir=f"{job.work_dir}-there-{turn}"))
    rmtree(theirs.adapter_dir)
    return {
        "turn": turn,
        "here_s": here_s,
        "nothing_on_ray_s": nothing_s,
        "on_ray_s": there_s,
        "store_s": store_s,
        "overhead_s": there_s - here_s - nothing_s,
        "same": ours.adapter_sha == theirs.adapter_sha,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=TURNS)
    args = parser.parse_args()
    os.environ.update(THREADS)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
        folder = Path(directory)
        settings = settings_for(str(folder / "asks"))
        settings = settings.model_copy(update={"sft": settings.sft.model_copy(update={"epochs": 0.5})})
        job = sft_job(settings, ensure_base(settings, lambda step, total, metrics: None))
        with engines(settings) as variables:
            os.environ.update({name: value for name, value in variables.items() if name.startswith("AWS_")})
            turns = []
            for turn in range(args.turns + 1):
                row = one_turn(on_ray(settings, variables, folder, turn), job, turn)
                say(f"turn {turn}: {row}" + ("" if turn else " (warms up and does not count)"))
                turns.append(row)
    report("ray", goals_of(turns[1:]), {"turns": turns[1:]})


def goals_of(turns: list[dict[str, Any]]) -> list[Goal]:
    show("seconds of a Dagster run", turns)
    local, start, ray = (min(each[name] for each in turns) for name in ("here_s", "nothing_on_ray_s", "on_ray_s"))
    return [
        Goal("on Ray, beside Ray's own start and the training here, s:", ray - local - start, "at most", OVERHEAD_S),
        Goal("adapters that differ from the local one:", sum(not each["same"] for each in turns), "at most", 0),
    ]


if __name__ == "__main__":
    main()
