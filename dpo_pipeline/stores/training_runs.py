"""The MLflow run of a training: opened before it begins, its curve shown meanwhile, FAILED where it ends badly."""

import json
import logging
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dpo_pipeline.stores.progress import read_task

LOOK_EVERY_S = 1.0
BATCH = 900
"""Metrics in one call; MLflow takes a thousand."""
LOST = "The process ended before the training did; a newer run goes on with it."
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainingRun:
    """What is known of a training before it begins. `tags` has `version` at least."""

    name: str
    parameters: Mapping[str, Any]
    tags: Mapping[str, str]
    dataset_file: Path | None = None
    dataset_rows: int | None = None
    dataset_manifest: Path | None = None


class OpenRun:
    """A run that is under way; `run_id` after `finish` is the run that has the adapter."""

    def __init__(self, client: Any, experiment: str, run_id: str):
        self.run_id = run_id
        self._client, self._experiment = client, experiment
        self._logged: set[tuple[int, str]] = set()
        self._logging = threading.Lock()
        self._finished = False

    def log_points(self, curve: Sequence[Mapping[str, float]]) -> None:
        """Points of the loss curve, each a mapping with its `step`; a value that was logged before is left out."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        with self._logging:  # the live curve and the end of the training may come at once
            metrics = [
                Metric(name, float(value), now, int(row["step"]))
                for row in curve
                for name, value in row.items()
                if name not in ("step", "epoch") and (int(row["step"]), name) not in self._logged
            ]
            self._log(metrics)
            self._logged |= {(each.step, each.key) for each in metrics}

    def finish(
        self,
        adapter_sha: str,
        metrics: Mapping[str, float],
        curve: Sequence[Mapping[str, float]],
        facts: Mapping[str, Any],
        adapter_dir: Path,
    ) -> None:
        """The adapter and what was measured. A run that has this adapter already takes the place of this one."""
        from mlflow.entities import Metric

        known = self._client.search_runs(
            [self._experiment], f"tags.adapter_sha = '{adapter_sha}' and attributes.status = 'FINISHED'"
        )
        if known:
            self._client.delete_run(self.run_id)
            self.run_id, self._finished = str(known[0].info.run_id), True
            return
        self.log_points(curve)
        now = int(time.time() * 1000)
        self._log([Metric(f"eval/{name}", float(value), now, 0) for name, value in metrics.items()])
        self._client.log_artifacts(self.run_id, str(adapter_dir), "adapter")
        self._client.set_tag(self.run_id, "reference_sha", str(facts.get("reference_sha")))
        # Last: by it the run is found when the same adapter comes again.
        self._client.set_tag(self.run_id, "adapter_sha", adapter_sha)
        self._client.set_terminated(self.run_id)
        self._finished = True

    def fail(self, error: str) -> None:
        """The training ended without an adapter."""
        if not self._finished:
            self._client.set_tag(self.run_id, "error", error[:5000])
            self._client.set_terminated(self.run_id, "FAILED")

    def _log(self, metrics: Sequence[Any]) -> None:
        for start in range(0, len(metrics), BATCH):
            self._client.log_batch(self.run_id, metrics=metrics[start : start + BATCH])


def open_run(client: Any, experiment: str, model: str, described: TrainingRun) -> OpenRun:
    """A new run, RUNNING. Runs of this model that still say so belong to trainings that were killed.

    One training at a time: two would be two versions.
    """
    from mlflow.entities import Dataset, DatasetInput, Param

    lost = client.search_runs([experiment], f"tags.registered_model = '{model}' and attributes.status = 'RUNNING'")
    for each in lost:
        client.set_tag(each.info.run_id, "error", LOST)
        client.set_terminated(each.info.run_id, "FAILED")
    tags = {**described.tags, "registered_model": model, "mlflow.note.content": f"Training of {described.name}"}
    run_id = str(client.create_run(experiment, run_name=described.name, tags=tags).info.run_id)
    parameters = [Param(name, str(value)[:500]) for name, value in described.parameters.items()]
    client.log_batch(run_id, params=parameters)
    if described.dataset_file:
        digest = described.tags["dataset_hash"]
        dataset = Dataset(
            name="preferences",
            digest=digest[:8],
            source_type="local",
            source=json.dumps({"uri": described.dataset_file.name, "sha256": digest}),
            profile=json.dumps({"num_rows": described.dataset_rows}),
        )
        client.log_inputs(run_id, [DatasetInput(dataset)])
    if described.dataset_manifest:
        client.log_artifact(run_id, str(described.dataset_manifest), "dataset")
    return OpenRun(client, experiment, run_id)


@contextmanager
def shown_live(opened: OpenRun, progress_dir: Path, task: str) -> Iterator[None]:
    """Within the block, the points that the training reports of itself go to its run as they come."""
    over, begun = threading.Event(), time.time()

    def follow() -> None:
        while not over.wait(LOOK_EVERY_S):
            told = read_task(progress_dir, task)
            if told and told.updated >= begun and told.metrics:
                try:
                    opened.log_points([{"step": told.step, **told.metrics}])
                except Exception:
                    # The curve is logged whole at the end; a training does not stop because nobody can watch it.
                    log.warning("MLflow took no point of the curve at step %d", told.step, exc_info=True)

    thread = threading.Thread(target=follow, name="live curve", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
