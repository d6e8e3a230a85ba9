"""How far long work is: one small file per task, replaced in one step, for terminals and pages to show."""

import json
import time
from dataclasses import asdict
from pathlib import Path

from dpo_pipeline.core.progress import TaskProgress
from dpo_pipeline.stores.artifacts import write_text

INTERVAL_S = 0.3


class ProgressFile:
    """Reports of one task. At most three writes a second, and always the last step."""

    def __init__(self, directory: Path, task: str):
        self._path = directory / f"{task}.json"
        self._task = task
        self._written = 0.0
        self._started, self._first_step = time.time(), -1

    def __call__(self, step: int, total: int, metrics: dict[str, float]) -> None:
        now = time.monotonic()
        if self._first_step < 0:
            # What an earlier start did, and the loading of libraries, say nothing of the speed.
            self._started, self._first_step = time.time(), step
        if step < total and now - self._written < INTERVAL_S:
            return
        self._written = now
        told = TaskProgress(self._task, step, total, metrics, time.time(), self._started, self._first_step)
        write_text(self._path, json.dumps(asdict(told)))


def read_progress(directory: Path) -> list[TaskProgress]:
    """All tasks, the one updated last first."""
    found = [json.loads(path.read_text()) for path in directory.glob("[!.]*.json")]
    # Reports of before a task knew when it began lack it.
    tasks = [TaskProgress(**{"started": task["updated"], **task}) for task in found]
    return sorted(tasks, key=lambda task: -task.updated)
