"""MLflow: runs, model versions, aliases. A projection of the ledger that people browse.

Creating a version is looked up by adapter hash first, so that doing it twice makes one. When MLflow
does not answer, or refuses, callers get a `RegistryError` and the loop goes on where it can.
"""

import json
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from dpo_pipeline.core.registry_plan import RegistrySnapshot
from dpo_pipeline.errors import RegistryError, RegistryRefused
from dpo_pipeline.in_words import fault
from dpo_pipeline.stores.mlflow_client import GONE, MlflowServer, failure_of
from dpo_pipeline.stores.mlflow_pages import EVALUATION, RunPages, run_page, version_page
from dpo_pipeline.stores.progress import note_run
from dpo_pipeline.stores.training_runs import OpenRun, TrainingRun, open_run, shown_live

MODEL_LOGGED = "model_logged"
EXPERIMENT_KIND, MODEL_TRAINING = "mlflow.experimentKind", "custom_model_development"
"""MLflow's own tag, and the value by which its pages show runs with curves, not traces of an application."""


class Registry:
    """One registered model on one tracking server."""

    def __init__(self, url: str, model: str, experiment: str = "dpo-pipeline"):
        self.url = url
        self.model = model
        self.experiment = experiment
        self._server = MlflowServer(url)

    def run_url(self, run_id: str) -> str:
        with self._server.client() as client:
            return f"{self.url}/{run_page(client.get_run(run_id).info.experiment_id, run_id)}"

    def version_url(self, version: str) -> str:
        return f"{self.url}/{version_page(self.model, version)}"

    def run_pages(self, run_id: str) -> RunPages | None:
        """Where MLflow shows a training and what came of it, for links in its own texts; null: it has no such run any
        more.

        Raises:
            RegistryError: MLflow does not answer, or refuses.
        """
        with self._server.client() as client:
            from mlflow.exceptions import MlflowException

            try:
                experiment = client.get_run(run_id).info.experiment_id
            except MlflowException as error:
                if error.error_code != GONE:
                    raise
                return None
            files = [each.path for each in client.list_artifacts(run_id, EVALUATION)]
        return RunPages.of(experiment, run_id, next((path for path in files if path.endswith(".html")), None))

    @contextmanager
    def training_run(self, described: TrainingRun, progress_dir: Path, task: str) -> Iterator[OpenRun]:
        """The run of a training, RUNNING from before it begins; its curve is shown meanwhile, as `task` reports it.

        An error out of the block, whichever, makes it a FAILED run with that error.

        Raises:
            RegistryError: MLflow does not answer or refuses, before the block or at its end.
        """
        with self._server.client() as client:
            opened = open_run(client, self._experiment(client), self.model, described)
        import requests
        from mlflow.exceptions import MlflowException

        note_run(progress_dir, task, opened.run_id)
        try:
            with shown_live(opened, progress_dir, task):
                yield opened
        except BaseException as error:
            with suppress(RegistryError), self._server.client():
                opened.fail(fault(error))
            if isinstance(error, MlflowException | requests.RequestException):
                raise failure_of(self.url, error) from None  # what it says may hold our account, and would be logged
            raise

    def log_evaluation(self, run_id: str, page: Path, verdict: Mapping[str, Any], figures: Mapping[str, float]) -> None:
        """Put the evaluation beside its training: figures as metrics, the page and the whole verdict as artifacts.

        Raises:
            RegistryError: MLflow does not answer, or refuses.
        """
        with self._server.client() as client:
            from mlflow.entities import Metric

            now = int(time.time() * 1000)
            client.log_batch(run_id, [Metric(f"{EVALUATION}/{name}", value, now, 0) for name, value in figures.items()])
            client.log_artifact(run_id, str(page), EVALUATION)
            client.log_dict(run_id, json.loads(json.dumps(verdict)), f"{EVALUATION}/verdict.json")

    def register(
        self,
        run_id: str,
        adapter_sha: str,
        tags: Mapping[str, str],
        description: str,
        write_model: Callable[[Path], None],
    ) -> str:
        """The MLflow version of this adapter, made where there is none. Returns its number.

        Args:
            write_model: writes the MLflow model into a folder that is not there yet.

        Raises:
            RegistryError: MLflow does not answer, or refuses.
        """
        with self._server.client() as client:
            from mlflow.exceptions import MlflowException

            try:
                client.get_registered_model(self.model)
            except MlflowException as error:
                if error.error_code != GONE:
                    raise
                client.create_registered_model(
                    self.model, description="Chat model improved from people's votes; one version a LoRA adapter."
                )
            known = client.search_model_versions(f"name = '{self.model}' and tags.adapter_sha = '{adapter_sha}'")
            if known:
                there = known[0]
            else:
                run = client.get_run(run_id)
                if MODEL_LOGGED not in run.data.tags:
                    with tempfile.TemporaryDirectory(prefix="mlflow-model-") as folder:
                        write_model(Path(folder) / "model")
                        client.log_artifacts(run_id, str(Path(folder) / "model"), "model")
                    # Last: files come one by one, and half a model is none.
                    client.set_tag(run_id, MODEL_LOGGED, "true")
                source = f"{run.info.artifact_uri}/model"
                there = client.create_model_version(
                    self.model, source, run_id, tags=dict(tags), description=description
                )
            self._describe(client, there, tags, description)
            return str(there.version)

    def describe(self, version: str, tags: Mapping[str, str], description: str) -> None:
        """Bring description and tags of a version up to date.

        Raises:
            RegistryError: MLflow does not answer, or refuses.
        """
        with self._server.client() as client:
            self._describe(client, client.get_model_version(self.model, version), tags, description)

    def log_card(self, run_id: str, card: str) -> None:
        """The model card beside the adapter that MLflow keeps.

        Raises:
            RegistryError: MLflow does not answer, or refuses.
        """
        with self._server.client() as client:
            client.log_text(run_id, card, "adapter/README.md")

    def _describe(self, client: Any, there: Any, tags: Mapping[str, str], description: str) -> None:
        """Write what differs: each tag is two calls of MLflow's client, and most are as they were."""
        if there.description != description:
            client.update_model_version(self.model, there.version, description)
        for name, value in tags.items():
            if there.tags.get(name) != value:
                client.set_model_version_tag(self.model, there.version, name, value)

    def look(self) -> RegistrySnapshot:
        """Aliases and tags as of now, over REST: serving and sensors look every few seconds and never import mlflow.

        Raises:
            RegistryError: MLflow does not answer, or refuses.
        """
        with self._server.rest() as session:
            found = self._server.read(session, "registered-models/get", {"name": self.model})
            if found is None:
                return RegistrySnapshot()
            query = {"filter": f"name='{self.model}'", "max_results": "1000"}
            listed = self._server.read(session, "model-versions/search", query) or {}
            model = found["registered_model"]
            tags = {
                str(each["version"]): {tag["key"]: tag["value"] for tag in each.get("tags", [])}
                for each in listed.get("model_versions", [])
            }
            aliases = {each["alias"]: str(each["version"]) for each in model.get("aliases", [])}
            return RegistrySnapshot(
                {alias: number for alias, number in aliases.items() if number in tags},
                {number: each.get("adapter_sha", "") for number, each in tags.items()},
                {number: each.get("status", "") for number, each in tags.items()},
            )

    def point(self, alias: str, number: str | None) -> None:
        """Set an alias, or delete it.

        Raises:
            RegistryError: MLflow does not answer, or refuses.
        """
        body = {"name": self.model, "alias": alias}
        with self._server.rest() as session:
            path = "registered-models/alias"
            if number is None:
                self._server.tell(session.delete, path, body)
            else:
                self._server.tell(session.post, path, {**body, "version": number})

    def tag(self, number: str, name: str, value: str) -> None:
        """
        Raises:
            RegistryError: MLflow does not answer, or refuses.
        """
        body = {"name": self.model, "version": number, "key": name, "value": value}
        with self._server.rest() as session:
            path = "model-versions/set-tag"
            self._server.tell(session.post, path, body)

    def _experiment(self, client: Any) -> str:
        found = client.get_experiment_by_name(self.experiment)
        if found is None:
            return str(client.create_experiment(self.experiment, tags={EXPERIMENT_KIND: MODEL_TRAINING}))
        if found.lifecycle_stage != "active":
            raise RegistryRefused(
                f"The experiment {self.experiment!r} was deleted in MLflow, and MLflow keeps the name. Restore it: "
                f"`MLFLOW_TRACKING_URI={self.url} mlflow experiments restore -x {found.experiment_id}`."
            )
        if not found.tags.get(EXPERIMENT_KIND):  # whoever chose a kind there keeps it
            client.set_experiment_tag(found.experiment_id, EXPERIMENT_KIND, MODEL_TRAINING)
        return str(found.experiment_id)
