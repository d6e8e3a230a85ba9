"""How far long work is: one small file per task, replaced in one step, for terminals and pages to show."""

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from dpo_pipeline.stores.artifacts import write_text

INTERVAL_S = 0.3


@dataclass(frozen=True)
class TaskProgress:
    task: str
    step: int
    total: int
    metrics: dict[str, float]
    updated: float

    @property
    def done(self) -> bool:
        return self.step >= self.total


class ProgressFile:
    """Reports of one task. At most three writes a second, and always the last step."""

    def __init__(self, directory: Path, task: str):
        self._path = directory / f"{task}.json"
        self._task = task
        self._written = 0.0

    def __call__(self, step: int, total: int, metrics: dict[str, float]) -> None:
        now = time.monotonic()
        if step < total and now - self._written < INTERVAL_S:
            return
        self._written = now
        write_text(self._path, json.dumps(asdict(TaskProgress(self._task, step, total, metrics, time.time()))))


def read_progress(directory: Path) -> list[TaskProgress]:
    """All tasks, the one updated last first."""
    found = [TaskProgress(**json.loads(path.read_text())) for path in directory.glob("[!.]*.json")]
    return sorted(found, key=lambda task: -task.updated)
