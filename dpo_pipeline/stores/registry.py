"""MLflow: runs, model versions, aliases. A projection of the ledger that people browse.

Creating a version is looked up by adapter hash first, so that doing it twice makes one. When MLflow
does not answer, callers get `RegistryUnavailable` and the loop goes on where it can.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from dpo_pipeline.errors import RegistryUnavailable
from dpo_pipeline.stores.ledger import DeploymentState
from dpo_pipeline.stores.training_runs import OpenRun, TrainingRun, open_run, shown_live

HEALTH_TIMEOUT_S = 10
ALIASES = ("champion", "challenger", "previous")


class Registry:
    """One registered model on one tracking server."""

    def __init__(self, url: str, model: str, experiment: str = "dpo-pipeline"):
        self.url = url
        self.model = model
        self.experiment = experiment

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
            RegistryUnavailable: MLflow does not answer.
        """
        with self._client() as client:
            opened = open_run(client, self._experiment(client), self.model, described)
        try:
            with shown_live(opened, progress_dir, task):
                yield opened
        except BaseException as error:
            with suppress(RegistryUnavailable), self._client():
                opened.fail(f"{type(error).__name__}: {error}")
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

    def register(self, run_id: str, adapter_sha: str, tags: Mapping[str, str], description: str) -> str:
        """The MLflow version of this adapter, made where there is none. Returns its number.

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
                source = f"{client.get_run(run_id).info.artifact_uri}/adapter"
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

    def mirror(
        self,
        state: DeploymentState,
        mlflow_versions: Mapping[str, str],
        statuses: Mapping[str, str],
        last_champion: str | None = None,
    ) -> bool:
        """Set aliases and status tags as the ledger has them. True where `champion` was left alone.

        That is where a person moved it since: an order, which `loop.registry_orders` takes or refuses.

        Args:
            mlflow_versions: version name → MLflow version number, for registered versions.
            statuses: version name → status in the ledger.
            last_champion: the number that `champion` was last set to by us.
        """
        wanted = {"champion": state.champion, "challenger": state.challenger, "previous": state.previous}
        with self._client() as client:
            present = client.get_registered_model(self.model).aliases
            moved = str(present.get("champion", ""))
            ordered = bool(last_champion and moved) and moved not in (
                last_champion,
                mlflow_versions.get(wanted["champion"] or ""),
            )
            for alias in ALIASES:
                if alias == "champion" and ordered:
                    continue
                number = mlflow_versions.get(wanted[alias] or "")
                if number and str(present.get(alias)) != number:
                    client.set_registered_model_alias(self.model, alias, number)
                elif not number and alias in present:
                    client.delete_registered_model_alias(self.model, alias)
            for name, number in mlflow_versions.items():
                client.set_model_version_tag(self.model, number, "status", statuses.get(name, "unknown"))
        return ordered

    def aliases(self) -> dict[str, str]:
        """alias → MLflow version number."""
        with self._client() as client:
            return {alias: str(number) for alias, number in client.get_registered_model(self.model).aliases.items()}

    def _experiment(self, client: Any) -> str:
        found = client.get_experiment_by_name(self.experiment)
        return str(found.experiment_id if found else client.create_experiment(self.experiment))

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
            raise RegistryUnavailable(
                f"MLflow at {self.url} refused or did not answer: {error}. Start it (`make up`) or set DPO_MLFLOW_URL; "
                "the ledger holds the truth, and the next run brings MLflow up to date."
            ) from error
