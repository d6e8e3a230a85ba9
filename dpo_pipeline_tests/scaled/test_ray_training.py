"""Trainings as jobs of a real Ray cluster, whose worker shares nothing with the run but a bucket of a real S3."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from shutil import rmtree
from typing import Any

import dagster as dg
import fsspec
import psutil
import pytest

from dpo_pipeline.core.dataset import split_pairs
from dpo_pipeline.errors import SettingsError, TrainingDiverged
from dpo_pipeline.ml.base_model import locate_base
from dpo_pipeline.ml.remote_training import send
from dpo_pipeline.ml.train_process import ProcessJob, ProcessResult, run
from dpo_pipeline.ml.training_plan import sft_job, write_dataset
from dpo_pipeline.resources import Models
from dpo_pipeline.settings import Settings
from dpo_pipeline.stores.artifacts import read_manifest
from dpo_pipeline.stores.shared_artifacts import ArtifactStore, _file_system
from dpo_pipeline_tests.ml.conftest import baseline, project  # noqa: F401  (fixtures)
from dpo_pipeline_tests.ml.trainings import job as dpo_training
from dpo_pipeline_tests.ml.trainings import pairs
from dpo_pipeline_tests.programs_under_test import eventually, free_port
from dpo_pipeline_tests.scaled.s3 import BUCKET, s3_server

pytest.importorskip("ray", reason="make test-scaled installs it")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.ray,
    # dagster-ray leaves the event loop open in which it read a job's log.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
RAY = Path(sys.executable).with_name("ray")


@pytest.fixture(scope="module")
def variables(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    with s3_server(tmp_path_factory.mktemp("s3")) as found, pytest.MonkeyPatch.context() as patched:
        for name, value in found.items():
            patched.setenv(name, value)
        _file_system.cache_clear()
        yield found
    _file_system.cache_clear()
    fsspec.filesystem("s3").clear_instance_cache()


@pytest.fixture(scope="module")
def cluster(variables: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """One head on this machine, on loopback alone; its dashboard takes the jobs."""
    port, folder = free_port(), tmp_path_factory.mktemp("ray")
    command = [
        *(str(RAY), "start", "--head", "--block", "--node-ip-address=127.0.0.1", f"--port={free_port()}"),
        *("--dashboard-host=127.0.0.1", f"--dashboard-port={port}", "--num-cpus=2", "--disable-usage-stats"),
        *("--object-store-memory=100000000", f"--temp-dir=/tmp/ray-{os.getpid()}", "--include-dashboard=true"),
    ]
    log = folder / "ray.log"
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, env={**os.environ, **variables})
    address = f"http://127.0.0.1:{port}"
    try:
        from ray.job_submission import JobSubmissionClient

        def up() -> bool:
            assert process.poll() is None, log.read_text()
            try:
                return JobSubmissionClient(address).list_jobs() is not None
            except (RuntimeError, ConnectionError):
                return False

        assert eventually(up, bool, seconds=60), log.read_text()
        yield address
    finally:
        started = psutil.Process(process.pid).children(recursive=True)
        process.terminate()
        process.wait(timeout=60)
        for each in started:
            if each.is_running():
                each.kill()
        rmtree(f"/tmp/ray-{os.getpid()}", ignore_errors=True)


@pytest.fixture
def settings(project: Settings, cluster: str, variables: dict[str, str], tmp_path: Path) -> Settings:  # noqa: F811
    """Of the machine that asks; the cluster works in a folder of its own."""
    worker = {"DPO_DATA_DIR": str(tmp_path / "worker"), "OMP_NUM_THREADS": "1", **variables}
    training = {
        "backend": "ray",
        "ray_address": cluster,
        "ray_python": sys.executable,
        "ray_runtime_env": {"env_vars": worker},
    }
    return project.model_copy(
        update={
            "artifacts_url": f"s3://{BUCKET}/{tmp_path.name}",
            "training": project.training.model_validate(training),
        }
    )


def materialized(settings: Settings, job: ProcessJob, told: list[str] | None = None) -> ProcessResult:
    """By a Dagster run, as an asset asks for it; `told` gets what stands in its log."""
    results: list[ProcessResult] = []

    @dg.asset
    def trained(context: dg.AssetExecutionContext, models: Models) -> dg.MaterializeResult:
        results.append(models.training_call(context, settings)(run, job))
        return dg.MaterializeResult(metadata={"sha256": results[0].adapter_sha})

    with dg.DagsterInstance.ephemeral() as instance:
        done = dg.materialize([trained], resources={"models": Models()}, instance=instance)
        assert done.success
        if told is not None:
            told += [entry.user_message for entry in instance.all_logs(done.run_id)]
    return results[0]


def own(job: ProcessJob, name: str) -> ProcessJob:
    """The same training, of which nothing is there yet."""
    return replace(job, work_dir=str(Path(job.work_dir).with_name(name)))


def test_a_job_gives_the_adapter_that_this_machine_would(
    settings: Settings,
    project: Settings,  # noqa: F811
    baseline: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    told: list[str] = []
    result = materialized(settings, own(sft_job(project, locate_base(project)), "sft-on-ray"), told)
    assert any(line.startswith("sft step ") for line in told), "its progress stands in the step's log"
    assert result.adapter_sha == read_manifest(baseline)["sha256"]
    assert (tmp_path / "worker" / "artifacts" / "adapters").is_dir(), "the worker worked in its own folder"


def test_a_killed_job_resumes_elsewhere_and_ends_the_same(
    settings: Settings,
    project: Settings,  # noqa: F811
    baseline: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    """The process is killed, and the folder that it worked in is gone: only the store is left."""
    data = write_dataset(project, split_pairs(pairs(project), frozenset(), 0.15, 8))
    job = own(dpo_training(project, baseline, data, checkpoint_steps=4, epochs=40), "dpo-on-ray")
    here = run(own(job, "dpo-here"))
    store = ArtifactStore(str(settings.artifacts_url), project.data_dir)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(materialized, settings, job)
        checkpoints = Path(job.work_dir) / "checkpoints"
        assert eventually(lambda: store.folders(checkpoints), bool, seconds=120)
        killed = [each for each in psutil.process_iter(["cmdline"]) if "dpo-on-ray" in (each.info["cmdline"] or ())]
        for each in killed:
            each.kill()
        rmtree(tmp_path / "worker")
        result = waiting.result(timeout=240)
    assert killed and result.facts["resumed_from_step"] > 0
    progress = json.loads((project.data_dir / "progress" / "dpo.json").read_bytes())
    assert progress["task"] == "dpo" and progress["losses"], "pages show how far it is"
    assert result.adapter_sha == here.adapter_sha
    assert not store.folders(checkpoints), "what nobody resumes from any more is dropped"


def test_the_trainings_own_error_comes_back(
    settings: Settings,
    project: Settings,  # noqa: F811
    baseline: Path,  # noqa: F811
) -> None:
    data = write_dataset(project, split_pairs(pairs(project), frozenset(), 0.15, 8))
    job = own(dpo_training(project, baseline, data, learning_rate=1e30), "dpo-diverges")
    begun = time.monotonic()
    with pytest.raises(TrainingDiverged):
        materialized(settings, job)
    assert time.monotonic() - begun < 120


def test_without_a_store_it_says_so(settings: Settings, project: Settings) -> None:  # noqa: F811
    alone = settings.model_copy(update={"artifacts_url": None})
    with pytest.raises(SettingsError, match="DPO_ARTIFACTS_URL names none"):
        send(alone, sft_job(project, locate_base(project)))


def test_what_travels_names_no_path_of_this_machine(settings: Settings, project: Settings) -> None:  # noqa: F811
    job = own(sft_job(project, locate_base(project)), "sft-travels")
    name = send(settings, job)
    files, root = fsspec.core.url_to_fs(settings.artifacts_url)
    told: dict[str, Any] = json.loads(files.cat_file(f"{root}/files/training/{name}/job.json"))
    assert str(project.data_dir) not in json.dumps(told)
    assert told["base_dir"].startswith("{data}/artifacts/base/")
