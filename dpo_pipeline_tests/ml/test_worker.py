"""The process beside a run: results, errors and log lines come back; killed, it says so and is there again."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import dagster as dg
import psutil
import pytest

from dpo_pipeline.errors import AdapterRefused, DatasetTooSmall, TaskFailed, WorkerEnded
from dpo_pipeline.ml.worker import Worker
from dpo_pipeline.resources import Models
from dpo_pipeline_tests.programs_under_test import eventually

pytestmark = pytest.mark.slow


def refuse(error: type[Exception]) -> None:
    raise error("four pairs")


def told(lines: int) -> int:
    import logging

    for number in range(lines):
        logging.getLogger("dpo_pipeline.ml.anything").info("step %d", number)
    return os.getpid()


@pytest.fixture
def worker() -> Iterator[Worker]:
    made = Worker()
    yield made
    made.close()


def test_what_a_task_returns_and_raises_comes_back(worker: Worker) -> None:
    assert worker.call(partial(told, 0)) == worker.pid != os.getpid()
    with pytest.raises(DatasetTooSmall, match=r"^four pairs$"):
        worker.call(partial(refuse, DatasetTooSmall))
    with pytest.raises(TaskFailed, match=r"(?s)refuse: ZeroDivisionError: four pairs.*Traceback"):
        worker.call(partial(refuse, ZeroDivisionError))
    with pytest.raises(AdapterRefused):
        worker.call(partial(refuse, AdapterRefused))


def test_killed_it_says_so_and_the_next_task_finds_a_new_one(worker: Worker) -> None:
    first = worker.call(partial(told, 0))
    os.kill(first, signal.SIGKILL)
    with pytest.raises(WorkerEnded, match="told ended with status -9"):
        while True:  # the pipe may take one more task before the process is gone
            worker.call(partial(told, 0))
    assert worker.call(partial(told, 0)) != first


def test_it_ends_with_the_program_that_started_it(tmp_path: Path) -> None:
    """Killed outright, so that it cannot close anything; the worker leaves by itself."""
    script = "from dpo_pipeline.ml.worker import Worker; import time; print(Worker().pid, flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout
        pid = int(program.stdout.readline())
        assert psutil.pid_exists(pid)
        program.kill()
    assert eventually(lambda: psutil.pid_exists(pid), lambda there: not there, seconds=60) is False


def test_what_a_task_logs_is_in_the_log_of_the_step() -> None:
    @dg.asset
    def working(context: dg.AssetExecutionContext, models: Models) -> dg.MaterializeResult:
        first = models.call(context, told, 2)
        assert models.call(context, told, lines=1) == first != os.getpid()
        return dg.MaterializeResult()

    with dg.DagsterInstance.ephemeral() as instance:
        begun = time.time()
        result = dg.materialize([working], resources={"models": Models()}, instance=instance)
        lines = [record.user_message for record in instance.all_logs(result.run_id)]
    assert [line for line in lines if line.startswith("step")] == ["step 0", "step 1", "step 0"]
    assert not [each for each in psutil.Process().children() if "worker" in command_since(each, begun)]


def command_since(process: psutil.Process, begun: float) -> str:
    """Empty where it was started before, or has ended meanwhile."""
    try:
        return " ".join(process.cmdline()) if process.create_time() > begun else ""
    except psutil.Error:
        return ""
