"""How far long work is, as a value, and what that says while the first version is being made."""

from collections.abc import Sequence
from dataclasses import dataclass

from dpo_pipeline.core.versions import BASELINE
from dpo_pipeline.in_words import duration

STILL_S = 120.0
"""After so long without a step something is wrong, and people are sent to Dagster's runs."""


@dataclass(frozen=True)
class TaskProgress:
    """One task. Times are seconds since the epoch; `first_step` is where this start of the task began.

    `losses`: of the steps so far, thinned out to a few dozen points. `mlflow_run`: where MLflow shows the task, null:
    nowhere.
    """

    task: str
    step: int
    total: int
    metrics: dict[str, float]
    updated: float
    started: float
    first_step: int = 0
    losses: tuple[float, ...] = ()
    mlflow_run: str | None = None

    @property
    def done(self) -> bool:
        return self.step >= self.total

    @property
    def left_s(self) -> float | None:
        """Seconds that are left at the speed so far; null before the second report."""
        advanced = self.step - self.first_step
        if advanced <= 0 or self.updated <= self.started:
            return None
        return (self.total - self.step) * (self.updated - self.started) / advanced

    def __str__(self) -> str:
        left = "" if self.left_s is None or self.done else f", about {duration(max(self.left_s, 1))} left"
        return f"step {self.step} of {self.total}{left}"


def first_version(tasks: Sequence[TaskProgress], champion: str | None, now: float) -> str:
    """One sentence for those who wait for the first version: what is being made, how far it is, how long it takes.

    Args:
        tasks: newest report of each task.
        champion: the version that the ledger names; serving is loading it.
        now: seconds since the epoch.
    """
    if champion:
        return f"{champion} is ready and is being loaded (some 10 s)."
    known = {task.task: task for task in tasks}
    base, tuning = known.get("base_model"), known.get("sft")
    if tuning and not tuning.done:
        return _step(f"{BASELINE}, the first version, is being tuned", tuning, now)
    if tuning:
        return f"{BASELINE}, the first version, is tuned and is being recorded (some 5 s)."
    if base and not base.done:
        return _step("The base model is being built", base, now)
    if base:
        return f"The base model is ready; {BASELINE}, the first version, is tuned next (about half a minute)."
    return f"Dagster starts and then tunes {BASELINE}, the first version (about a minute in all)."


def _step(what: str, task: TaskProgress, now: float) -> str:
    still_s = now - task.updated
    if still_s > STILL_S:
        return f"{what}: {task}, but nothing has moved for {duration(still_s)}. Look at the runs in Dagster."
    return f"{what}: {task}."
