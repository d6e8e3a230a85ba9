"""MLflow: runs, model versions, aliases. A projection of the ledger that people browse.

Creating a version is looked up by adapter hash first, so that doing it twice makes one. When MLflow
does not answer, callers get `RegistryUnavailable` and the loop goes on where it can.
"""

import json
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from dpo_pipeline.core.registry_plan import RegistrySnapshot
from dpo_pipeline.errors import RegistryUnavailable
from dpo_pipeline.stores.training_runs import OpenRun, TrainingRun, open_run, shown_live

HEALTH_TIMEOUT_S, REST_TIMEOUT_S = 10, 5
MODEL_LOGGED = "model_logged"


class Registry:
    """One registered model on one tracking server."""

    def __init__(self, url: str, model: str, experiment: str = "dpo-pipeline"):
        self.url = url
        self.model = model
        self.experiment = experiment
        self._rest = f"{url.rstrip('/')}/api/2.0/mlflow"
        self._session: Any = None

    def run_url(self, run_id: str) -> str:
        with self._client() as client:
            experiment = client.get_run(run_id).info.experiment_id
        return f"{self.url}/#/experiments/{experiment}/runs/{run_id}"

    def version_url(self, version: str) -> str:
        return f"{self.url}/#/models/{self.model}/versions/{version}"

    @contextmanager
    def training_run(self, described: TrainingRun, progress_dir: Path, task: str) -> Iterator[OpenRun]:
        """The run of a training, RUNNING from before it begins; its curve is shown meanwhile, as `task` reports it.

        An error out of the block, whichever, makes it a FAILED run with that error.

        Raises:
            RegistryUnavailable: MLflow does not answer, before the block or at its end.
        """
        import requests
        from mlflow.exceptions import MlflowException

        with self._client() as client:
            opened = open_run(client, self._experiment(client), self.model, described)
        try:
            with shown_live(opened, progress_dir, task):
                yield opened
        except BaseException as error:
            with suppress(RegistryUnavailable), self._client():
                opened.fail(f"{type(error).__name__}: {error}")
            if isinstance(error, MlflowException | requests.RequestException):
                raise _unavailable(self.url, error) from error
            raise

    def log_evaluation(self, run_id: str, page: Path, verdict: Mapping[str, Any], figures: Mapping[str, float]) -> None:
        """Put the evaluation beside its training: figures as metrics, the page and the whole verdict as artifacts.

        Raises:
            RegistryUnavailable: MLflow does not answer.
        """
        with self._client() as client:
            for name, value in figures.items():
                client.log_metric(run_id, f"evaluation/{name}", value)
            client.log_artifact(run_id, str(page), "evaluation")
            client.log_dict(run_id, json.loads(json.dumps(verdict)), "evaluation/verdict.json")

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
            RegistryUnavailable: MLflow does not answer.
        """
        from mlflow.exceptions import MlflowException

        with self._client() as client:
            try:
                client.get_registered_model(self.model)
            except MlflowException as error:
                if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                    raise
                client.create_registered_model(
                    self.model, description="Chat model improved from people's votes; one version a LoRA adapter."
                )
            known = client.search_model_versions(f"name = '{self.model}' and tags.adapter_sha = '{adapter_sha}'")
            if known:
                version = str(known[0].version)
            else:
                run = client.get_run(run_id)
                if MODEL_LOGGED not in run.data.tags:
                    with tempfile.TemporaryDirectory(prefix="mlflow-model-") as folder:
                        write_model(Path(folder) / "model")
                        client.log_artifacts(run_id, str(Path(folder) / "model"), "model")
                    # Last: files come one by one, and half a model is none.
                    client.set_tag(run_id, MODEL_LOGGED, "true")
                source = f"{run.info.artifact_uri}/model"
                version = str(client.create_model_version(self.model, source, run_id, tags=dict(tags)).version)
            self._describe(client, version, tags, description)
            return version

    def describe(self, version: str, tags: Mapping[str, str], description: str) -> None:
        """Bring description and tags of a version up to date.

        Raises:
            RegistryUnavailable: MLflow does not answer.
        """
        with self._client() as client:
            self._describe(client, version, tags, description)

    def log_card(self, run_id: str, card: str) -> None:
        """The model card beside the adapter that MLflow keeps.

        Raises:
            RegistryUnavailable: MLflow does not answer.
        """
        with self._client() as client:
            client.log_text(run_id, card, "adapter/README.md")

    def _describe(self, client: Any, version: str, tags: Mapping[str, str], description: str) -> None:
        client.update_model_version(self.model, version, description)
        for name, value in tags.items():
            client.set_model_version_tag(self.model, version, name, value)

    def look(self) -> RegistrySnapshot:
        """Aliases and tags as of now, over REST: serving and sensors look every few seconds and never import mlflow.

        Raises:
            RegistryUnavailable: MLflow does not answer.
        """
        with self._answering() as session:
            query = {"name": self.model}
            found = session.get(f"{self._rest}/registered-models/get", params=query, timeout=REST_TIMEOUT_S)
            if found.status_code == 404 and found.json().get("error_code") == "RESOURCE_DOES_NOT_EXIST":
                return RegistrySnapshot()
            found.raise_for_status()  # 404 without that is a proxy whose MLflow is away
            model = found.json()["registered_model"]
            query = {"filter": f"name='{self.model}'", "max_results": "1000"}
            listed = session.get(f"{self._rest}/model-versions/search", params=query, timeout=REST_TIMEOUT_S)
            listed.raise_for_status()
            tags = {
                str(each["version"]): {tag["key"]: tag["value"] for tag in each.get("tags", [])}
                for each in listed.json().get("model_versions", [])
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
            RegistryUnavailable: MLflow does not answer.
        """
        body = {"name": self.model, "alias": alias}
        with self._answering() as session:
            url = f"{self._rest}/registered-models/alias"
            if number is None:
                session.delete(url, json=body, timeout=REST_TIMEOUT_S).raise_for_status()
            else:
                session.post(url, json={**body, "version": number}, timeout=REST_TIMEOUT_S).raise_for_status()

    def tag(self, number: str, name: str, value: str) -> None:
        """
        Raises:
            RegistryUnavailable: MLflow does not answer.
        """
        body = {"name": self.model, "version": number, "key": name, "value": value}
        with self._answering() as session:
            url = f"{self._rest}/model-versions/set-tag"
            session.post(url, json=body, timeout=REST_TIMEOUT_S).raise_for_status()

    def _experiment(self, client: Any) -> str:
        found = client.get_experiment_by_name(self.experiment)
        return str(found.experiment_id if found else client.create_experiment(self.experiment))

    @contextmanager
    def _answering(self) -> Iterator[Any]:
        """The one connection that is kept: opening one for every look costs more than the look."""
        import requests  # not at the top: runs that never look should not load it

        self._session = self._session or requests.Session()
        try:
            yield self._session
        except (requests.RequestException, KeyError, ValueError) as error:
            raise _unavailable(self.url, error) from error

    @contextmanager
    def _client(self) -> Iterator[Any]:
        import requests
        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException

        try:
            # MLflow's client tries again for minutes before it says that nobody is there.
            requests.get(f"{self.url}/health", timeout=HEALTH_TIMEOUT_S).raise_for_status()
            yield MlflowClient(self.url)
        except (requests.RequestException, MlflowException) as error:
            raise _unavailable(self.url, error) from error


def _unavailable(url: str, error: Exception) -> RegistryUnavailable:
    return RegistryUnavailable(
        f"MLflow at {url} refused or did not answer: {error}. Start it (`make up`) or set DPO_MLFLOW_URL; the ledger "
        "holds the truth, and the next run brings MLflow up to date."
    )
