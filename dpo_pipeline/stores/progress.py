"""How far long work is: one small file per task, replaced in one step, for terminals and pages to show."""

import json
import time
from dataclasses import asdict
from pathlib import Path

from dpo_pipeline.core.progress import TaskProgress
from dpo_pipeline.stores.artifacts import write_text

INTERVAL_S = 0.3
RUN = ".run"
"""Ending of the file beside it that names the run of MLflow: another process writes it."""
MOST_LOSSES = 100
"""Beyond it every second one is dropped, and from then on only every second one is kept, and so on."""


class ProgressFile:
    """Reports of one task. At most three writes a second, and always the last step."""

    def __init__(self, directory: Path, task: str):
        self._path = directory / f"{task}.json"
        self._task = task
        self._written = 0.0
        self._started, self._first_step = time.time(), -1
        self._losses: list[float] = []
        self._every, self._seen = 1, 0

    def __call__(self, step: int, total: int, metrics: dict[str, float]) -> None:
        now = time.monotonic()
        if self._first_step < 0:
            # What an earlier start did, and the loading of libraries, say nothing of the speed.
            self._started, self._first_step = time.time(), step
        if "loss" in metrics:
            self._keep(metrics["loss"])
        if step < total and now - self._written < INTERVAL_S:
            return
        self._written = now
        told = TaskProgress(
            self._task, step, total, metrics, time.time(), self._started, self._first_step, tuple(self._losses)
        )
        write_text(self._path, json.dumps(asdict(told)))

    def _keep(self, loss: float) -> None:
        if self._seen % self._every == 0:
            self._losses.append(loss)
        self._seen += 1
        if len(self._losses) > MOST_LOSSES:
            self._losses = self._losses[::2]
            self._every *= 2


def read_progress(directory: Path) -> list[TaskProgress]:
    """All tasks, the one updated last first."""
    tasks = [_read(path) for path in directory.glob("[!.]*.json")]
    return sorted(tasks, key=lambda task: -task.updated)


def read_task(directory: Path, task: str) -> TaskProgress | None:
    """One task; null before its first report."""
    path = directory / f"{task}.json"
    return _read(path) if path.exists() else None


def note_run(directory: Path, task: str, run: str) -> None:
    """Where MLflow shows this task from now on."""
    write_text(directory / f"{task}{RUN}", run)


def _read(path: Path) -> TaskProgress:
    told, run = json.loads(path.read_text()), path.with_suffix(RUN)
    told |= {"losses": tuple(told.get("losses", ())), "mlflow_run": run.read_text() if run.exists() else None}
    # Reports of before a task knew when it began lack it.
    return TaskProgress(**{"started": told["updated"], **told})
