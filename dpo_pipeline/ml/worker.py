"""The process in which a run's models live: `python -m dpo_pipeline.ml.worker FD`, started by `Worker`.

torch, transformers and TRL take seconds to import, and what works with them holds the interpreter; a run's own process
has to go on reporting to Dagster meanwhile. So a run keeps one process beside it for all such work: the libraries load
while the run does its first steps, training and evaluation share them, and memory comes back when it ends. What a task
logs goes to Dagster through Pipes.
"""

import importlib
import logging
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection, Pipe
from typing import Any, TypeVar

from dagster_pipes import PipesContext, PipesDefaultContextLoader, PipesDefaultMessageWriter, PipesMappingParamsLoader

from dpo_pipeline.errors import DpoError, TaskFailed, WorkerEnded
from dpo_pipeline.quick_imports import quick_imports

T = TypeVar("T")
LIBRARIES = ("torch", "transformers.models.auto", "peft", "trl.trainer.dpo_trainer", "vaderSentiment.vaderSentiment")
log = logging.getLogger("dpo_pipeline")


@dataclass(frozen=True)
class _Call:
    """A task with its arguments; `pipes` leads to the Dagster step that it is part of."""

    task: partial[Any]
    pipes: Mapping[str, str]


class Worker:
    """One process, one task at a time. It ends with the program that started it, once its task is done."""

    def __init__(self) -> None:
        self._start()

    def _start(self) -> None:
        self._pipe, theirs = Pipe()
        command = [sys.executable, "-m", "dpo_pipeline.ml.worker", str(theirs.fileno())]
        with theirs:
            self._process = subprocess.Popen(command, pass_fds=[theirs.fileno()])

    @property
    def pid(self) -> int:
        return self._process.pid

    def call(self, task: partial[T], pipes: Mapping[str, str] | None = None) -> T:
        """What the task returns.

        Args:
            task: a function of a module, with arguments; all can be pickled.
            pipes: the bootstrap variables of a Pipes session, to which the task's log goes.

        Raises:
            DpoError: the task's own.
            TaskFailed: the task met anything else; with its traceback.
            WorkerEnded: the process was killed or crashed.
        """
        if self._process.poll() is not None:  # it ended in the task before, which is tried again
            self._start()
        try:
            self._pipe.send(_Call(task, pipes or {}))
            result: T | DpoError = self._pipe.recv()
        except (EOFError, BrokenPipeError, ConnectionResetError) as error:
            raise WorkerEnded(
                f"The process of {task.func.__name__} ended with status {self._process.wait()} before it was done. "
                "Run the step again: a training resumes from its last checkpoint. -9 means that something killed it, "
                "which is what Linux does when memory runs out."
            ) from error
        if isinstance(result, DpoError):
            raise result
        return result

    def close(self) -> None:
        """End it now, whatever it does."""
        self._pipe.close()
        self._process.kill()
        self._process.wait()


def _work(pipe: Connection) -> None:
    missing = list(LIBRARIES)
    while True:
        while missing and not pipe.poll():  # a task that is there knows best what it needs
            with quick_imports():
                importlib.import_module(missing.pop(0))
        call: _Call = pipe.recv()
        pipe.send(_outcome(call))


def _outcome(call: _Call) -> Any:
    """The task's result, or its error as a value."""
    try:
        if not call.pipes:
            return call.task()
        # Not `open_dagster_pipes`, which knows one session a process.
        loader = PipesMappingParamsLoader(call.pipes)
        with PipesContext(loader, PipesDefaultContextLoader(), PipesDefaultMessageWriter()) as pipes:
            told = PipesLog(pipes)
            log.addHandler(told)
            try:
                return call.task()
            finally:
                log.removeHandler(told)
    except DpoError as error:
        return error
    except Exception as error:
        return TaskFailed(f"{call.task.func.__name__}: {type(error).__name__}: {error}\n{traceback.format_exc()}")


class PipesLog(logging.Handler):
    """Our log lines, in the Dagster log of the step."""

    def __init__(self, pipes: PipesContext) -> None:
        super().__init__()
        self._pipes = pipes

    def emit(self, record: logging.LogRecord) -> None:
        self._pipes.log.log(record.levelno, record.getMessage())


def main() -> None:
    """Do what comes through the pipe until its other end is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the run's to answer
    log.setLevel(logging.INFO)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    with Connection(int(sys.argv[1])) as pipe, suppress(EOFError, BrokenPipeError, ConnectionResetError):
        _work(pipe)
    # Threads of the libraries must not keep a process that nobody needs.
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
