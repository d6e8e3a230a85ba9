"""What a training on another machine is made of, without a cluster: two folders that share nothing but a store."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from dpo_pipeline.errors import ArtifactCorrupt, TrainingDiverged
from dpo_pipeline.ml.base_model import ensure_base, locate_base
from dpo_pipeline.ml.remote_training import collect, send, train_here
from dpo_pipeline.ml.train_process import ProcessJob
from dpo_pipeline.ml.training_plan import sft_job
from dpo_pipeline.settings import Settings
from dpo_pipeline_tests.ml.conftest import project  # noqa: F401  (a fixture)

pytestmark = pytest.mark.slow


@pytest.fixture
def machines(project: Settings, tmp_path: Path) -> tuple[Settings, Settings]:  # noqa: F811
    """Who asks, and who trains; the base is a folder of their own, as the hub's are."""
    base = tmp_path / "base"
    shutil.copytree(locate_base(project).directory, base, ignore=shutil.ignore_patterns("manifest.json"))
    model = project.model.model_copy(update={"base": str(base)})
    asks, trains = (
        project.model_copy(
            update={"data_dir": tmp_path / name, "model": model, "artifacts_url": f"file://{tmp_path / 'store'}"}
        )
        for name in ("asks", "trains")
    )
    return asks, trains


def job_of(settings: Settings) -> ProcessJob:
    return sft_job(settings, ensure_base(settings, lambda step, total, metrics: None))


def test_a_base_that_lies_elsewhere_is_found_by_its_name(machines: tuple[Settings, Settings]) -> None:
    asks, trains = machines
    job = job_of(asks)
    assert collect(asks, job) is None
    trained = train_here(trains, send(asks, job))
    found = collect(asks, job)
    assert found is not None and found.adapter_sha == trained.adapter_sha
    assert Path(found.adapter_dir).is_relative_to(asks.data_dir)


def test_another_base_there_is_refused_and_told(machines: tuple[Settings, Settings]) -> None:
    asks, trains = machines
    job = replace(job_of(asks), base_sha="0" * 64)
    name = send(asks, job)
    with pytest.raises(ArtifactCorrupt, match="the training is of 000000000000"):
        train_here(trains, name)
    with pytest.raises(ArtifactCorrupt, match="the training is of 000000000000"):
        collect(asks, job)


def test_an_error_of_the_training_is_told_as_it_is(machines: tuple[Settings, Settings]) -> None:
    asks, trains = machines
    job = job_of(asks)
    job = replace(job, recipe=job.recipe | {"learning_rate": 1e30})
    with pytest.raises(TrainingDiverged):
        train_here(trains, send(asks, job))
    with pytest.raises(TrainingDiverged):
        collect(asks, job)
    send(asks, job)
    assert collect(asks, job) is None, "sent again, it is tried again"
