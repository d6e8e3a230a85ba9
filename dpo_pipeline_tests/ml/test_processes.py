"""Several processes train one adapter together, as they do on several GPUs: here two on this processor, by gloo."""

import json
import logging
import multiprocessing
import os
import shutil
import signal
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest

from dpo_pipeline.core.dataset import split_pairs
from dpo_pipeline.errors import DatasetTooSmall, TaskFailed, WorkerEnded
from dpo_pipeline.ml import train_process
from dpo_pipeline.ml.base_model import locate_base
from dpo_pipeline.ml.processes import how_many, together, wait_for_all
from dpo_pipeline.ml.train_process import ProcessJob, ProcessResult
from dpo_pipeline.ml.training_plan import sft_job, write_dataset
from dpo_pipeline.settings import ModelSettings, Settings
from dpo_pipeline.stores.artifacts import read_manifest, write_text
from dpo_pipeline.stores.progress import read_task
from dpo_pipeline_tests.ml.trainings import job, pairs, tensors
from dpo_pipeline_tests.programs_under_test import eventually

trains = pytest.mark.slow
NEAR = 1e-3


class Both(NamedTuple):
    """The same training by one process and by two."""

    alone: ProcessResult
    shared: ProcessResult
    job: ProcessJob


def in_folder(made: ProcessJob, folder: Path, processes: int) -> ProcessJob:
    """The same training, with nothing of its own outside this folder."""
    places = {name: str(folder / name) for name in ("work_dir", "adapters_dir", "progress_dir")}
    cache = str(folder / "reference") if made.reference_cache else ""
    return replace(made, processes=processes, reference_cache=cache, **places)


@pytest.fixture(scope="module")
def both(project: Settings, baseline: Path, tmp_path_factory: pytest.TempPathFactory) -> Both:
    data = write_dataset(project, split_pairs(pairs(project), frozenset(), 0.15, 8))
    made = job(project, baseline, data, batch_size=8)
    alone, shared = (
        in_folder(made, tmp_path_factory.mktemp(f"of-{count}"), count) for count in (1, 2)
    )  # fmt: skip
    return Both(train_process.run(alone), train_process.run(shared), shared)


def farthest(first: Path, second: Path) -> float:
    before, after = tensors(first), tensors(second)
    assert before.keys() == after.keys()
    return max(float((tensor - after[name]).abs().max()) for name, tensor in before.items())


@trains
def test_two_processes_make_the_adapter_of_one(both: Both) -> None:
    assert farthest(Path(both.alone.adapter_dir), Path(both.shared.adapter_dir)) < NEAR
    for name, value in both.alone.metrics.items():
        if name.startswith(("loss", "rewards/")):
            assert both.shared.metrics[name] == pytest.approx(value, abs=NEAR), name
    steps = [row["step"] for row in both.alone.curve]
    assert [row["step"] for row in both.shared.curve] == steps
    assert [row["loss"] for row in both.shared.curve] == pytest.approx(
        [row["loss"] for row in both.alone.curve], abs=NEAR
    )


@trains
def test_the_manifest_says_how_many_they_were_and_of_what_batch(both: Both) -> None:
    manifests = [read_manifest(Path(each.adapter_dir)) for each in (both.alone, both.shared)]
    assert [each.get("processes") for each in manifests] == [None, 2]
    assert [each["recipe"]["batch_size"] for each in manifests] == [8, 8]


@trains
def test_progress_is_told_once(both: Both) -> None:
    told = read_task(Path(both.job.progress_dir), "dpo")
    assert told is not None and told.step == told.total == both.shared.curve[-1]["step"]


@trains
def test_a_checkpoint_is_whole_and_a_training_goes_on_from_it(both: Both, tmp_path: Path) -> None:
    again, steps = in_folder(both.job, tmp_path, 2), both.shared.curve[-1]["step"]
    found = {int(each.name.split("-")[1]): each for each in Path(both.job.work_dir).glob("checkpoints/checkpoint-*")}
    at = min(found)
    assert at < steps
    shutil.copytree(found[at], Path(again.work_dir) / "checkpoints" / found[at].name)
    resumed = train_process.run(again)
    assert resumed.facts["resumed_from_step"] == at
    assert farthest(Path(both.shared.adapter_dir), Path(resumed.adapter_dir)) < NEAR


@trains
@pytest.mark.nightly
def test_demonstrations_likewise(project: Settings, tmp_path: Path) -> None:
    made = sft_job(project, locate_base(project))
    alone, shared = (train_process.run(in_folder(made, tmp_path / str(count), count)) for count in (1, 2))
    assert farthest(Path(alone.adapter_dir), Path(shared.adapter_dir)) < NEAR


def too_small_for_one() -> None:
    if os.environ["RANK"] == "0":
        raise DatasetTooSmall("3 pairs are usable; 8 were required.")
    wait_for_all()


def interrupted() -> None:
    os.kill(os.getpid(), signal.SIGINT)
    signal.pause()


def broken() -> None:
    raise ZeroDivisionError("of no batch")


def killed() -> None:
    wait_for_all()
    if os.environ["RANK"] == "1":
        os.kill(os.getpid(), signal.SIGKILL)
    wait_for_all()


def told_and_asleep(folder: Path) -> None:
    write_text(folder / os.environ["RANK"], str(os.getpid()))
    time.sleep(60)


def lives(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def talkative() -> str:
    logging.getLogger("dpo_pipeline.ml").info("step 1 of 2")
    return json.dumps("done")


@trains
def test_an_error_of_theirs_is_the_trainings_own() -> None:
    with pytest.raises(DatasetTooSmall, match="3 pairs are usable"):
        together(2, too_small_for_one)
    with pytest.raises(WorkerEnded, match="no result"):
        together(2, interrupted)
    with pytest.raises(TaskFailed, match="of no batch"):
        together(2, broken)
    with pytest.raises(WorkerEnded, match="status -9"):
        together(2, killed)


@pytest.mark.nightly
def test_none_is_left_behind_when_whoever_started_them_is_killed(tmp_path: Path) -> None:
    first = multiprocessing.get_context("spawn").Process(target=together, args=(2, partial(told_and_asleep, tmp_path)))
    first.start()
    told = eventually(lambda: list(tmp_path.glob("[01]")), lambda found: len(found) == 2, seconds=60)
    others = [psutil.Process(int(each.read_text())) for each in told]
    assert len(others) == 2
    first.kill()
    first.join()
    assert not eventually(lambda: [each for each in others if lives(each)], lambda left: not left)


@trains
def test_what_they_log_is_logged_here_once(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "dpo_pipeline"):
        assert together(2, talkative) == '"done"'
    assert [each.getMessage() for each in caplog.records] == ["step 1 of 2"]


@pytest.mark.parametrize(("asked", "batch", "count"), [(None, 8, 1), (2, 8, 2), (3, 8, 2), (3, 9, 3), (4, 1, 1)])
def test_a_batch_is_shared_evenly(asked: int | None, batch: int, count: int) -> None:
    assert how_many(ModelSettings(device="cpu"), asked, batch) == count
