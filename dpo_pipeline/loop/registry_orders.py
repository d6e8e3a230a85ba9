"""Orders that a person gives in the MLflow registry, and what was deleted there by accident.

Moving `champion` to a version is an order: recorded with its actor and applied, or refused with the reason in the
version's tags. Moving `challenger` onto the champion's version rolls the challenger back. Everything else that differs
from the ledger is set back and reported. Speaks MLflow's REST interface itself: a sensor looks every few seconds and
must not import mlflow.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import requests

from dpo_pipeline.errors import RegistryUnavailable, StaleEpoch
from dpo_pipeline.loop.notify import tell
from dpo_pipeline.loop.rollout_orders import unfit_to_serve
from dpo_pipeline.settings import Settings
from dpo_pipeline.stores.ledger import DeploymentState, Ledger, VersionRecord

TIMEOUT_S = 5
ACTOR = "a person in MLflow"
REFUSED_TAG = "order_refused"


@dataclass(frozen=True)
class Seen:
    """The registry at a moment: number by alias, and sha256 of the adapter by number. Empty: there is no model yet."""

    aliases: dict[str, str]
    adapters: dict[str, str]


class RegistryAliases:
    """Aliases and tags of one registered model, over REST."""

    def __init__(self, url: str, model: str):
        self._base, self._model = f"{url.rstrip('/')}/api/2.0/mlflow", model
        # One connection for a look every few seconds: opening one each time costs more than the look.
        self._session = requests.Session()

    def look(self) -> Seen:
        """
        Raises:
            RegistryUnavailable: MLflow does not answer.
        """
        with self._answers():
            found = self._session.get(
                f"{self._base}/registered-models/get", params={"name": self._model}, timeout=TIMEOUT_S
            )
            if found.status_code == 404 and found.json().get("error_code") == "RESOURCE_DOES_NOT_EXIST":
                return Seen({}, {})
            found.raise_for_status()  # 404 without that is a proxy whose MLflow is away
            model = found.json()["registered_model"]
            listed = self._session.get(
                f"{self._base}/model-versions/search",
                params={"filter": f"name='{self._model}'", "max_results": "1000"},
                timeout=TIMEOUT_S,
            )
            listed.raise_for_status()
            adapters = {
                str(each["version"]): next((t["value"] for t in each.get("tags", []) if t["key"] == "adapter_sha"), "")
                for each in listed.json().get("model_versions", [])
            }
            aliases = {each["alias"]: str(each["version"]) for each in model.get("aliases", [])}
            return Seen({alias: number for alias, number in aliases.items() if number in adapters}, adapters)

    def point(self, alias: str, number: str | None) -> None:
        """Set an alias, or delete it."""
        body: dict[str, Any] = {"name": self._model, "alias": alias}
        with self._answers():
            url = f"{self._base}/registered-models/alias"
            if number is None:
                self._session.delete(url, json=body, timeout=TIMEOUT_S).raise_for_status()
            else:
                self._session.post(url, json={**body, "version": number}, timeout=TIMEOUT_S).raise_for_status()

    def tag(self, number: str, name: str, value: str) -> None:
        body = {"name": self._model, "version": number, "key": name, "value": value}
        with self._answers():
            self._session.post(f"{self._base}/model-versions/set-tag", json=body, timeout=TIMEOUT_S).raise_for_status()

    @contextmanager
    def _answers(self) -> Iterator[None]:
        try:
            yield
        except (requests.RequestException, KeyError, ValueError) as error:
            raise RegistryUnavailable(
                f"MLflow at {self._base} refused or did not answer: {error}. Start it (`make up`), or set "
                "DPO_MLFLOW_URL."
            ) from error


def take_orders(settings: Settings, ledger: Ledger, registry: RegistryAliases) -> list[str]:
    """`follow_registry`, and people are told what was done.

    Raises:
        RegistryUnavailable: MLflow does not answer.
    """
    done = follow_registry(ledger, registry)
    if done:
        tell(settings, f"MLflow's registry: {len(done)} changes", "\n".join(done))
    return done


def follow_registry(ledger: Ledger, registry: RegistryAliases) -> list[str]:
    """Take an order, or set back what differs from the ledger; what was done, in words. Nothing is done twice.

    Raises:
        RegistryUnavailable: MLflow does not answer.
    """
    # The ledger first: what is mirrored after this and seen below would look like a person's order otherwise. An order
    # on an old epoch is refused.
    mirrored, state, versions = ledger.mirrored(), ledger.deployment(), ledger.versions()
    seen = registry.look()
    if state.champion is None:
        return []
    done = []
    for record in versions:
        # By the adapter and not by the number: in a model that was deleted and made again, numbers begin anew.
        if record.mlflow_version and seen.adapters.get(record.mlflow_version) != record.adapter_sha:
            done.append(f"version {record.mlflow_version} of MLflow, our {record.name}, was deleted; it is made again")
            ledger.note_mlflow_version(record.name, None)
    if done:
        versions = ledger.versions()
    numbers = {record.name: record.mlflow_version for record in versions if record.mlflow_version}
    moved = seen.aliases.get("champion")
    if numbers and moved and moved != numbers.get(state.champion) and moved != mirrored.get("champion"):
        done.append(_order(ledger, registry, state, versions, moved))
        state = ledger.deployment()
    elif state.challenger and moved and seen.aliases.get("challenger") == moved == numbers.get(str(state.champion)):
        done.append(_roll_back(ledger, state))
        state = ledger.deployment()
    wanted = {
        alias: numbers[name]
        for alias, name in (
            ("champion", state.champion), ("challenger", state.challenger), ("previous", state.previous)
        )
        if name in numbers
    }  # fmt: skip
    for alias in ("champion", "challenger", "previous"):
        if registry_alias := _differs(seen, registry, alias, wanted.get(alias)):
            done.append(registry_alias)
    ledger.note_mirrored(wanted)
    return done


def _order(
    ledger: Ledger, registry: RegistryAliases, state: DeploymentState, versions: list[VersionRecord], number: str
) -> str:
    record = next((each for each in versions if each.mlflow_version == number), None)
    serving = next((each for each in versions if each.name == state.champion), None)
    reason = unfit_to_serve(record, serving) if record else "it is none of the versions in the ledger"
    if reason:
        registry.tag(number, REFUSED_TAG, reason)
        if record:
            ledger.record_refusal(record.name, reason, ACTOR)
        return f"the order to make version {number} champion is refused: {reason}"
    assert record
    try:
        ledger.order_champion(record.name, state.epoch, (f"champion was moved to {record.name} in MLflow",), ACTOR)
    except StaleEpoch as error:
        return str(error)
    return f"{record.name} is champion by order of {ACTOR}"


def _roll_back(ledger: Ledger, state: DeploymentState) -> str:
    """`challenger` was moved onto the champion's version: nothing else shall be rolled out."""
    try:
        ledger.roll_back(state.epoch, ("challenger was moved to the champion's version in MLflow",), {}, ACTOR)
    except StaleEpoch as error:
        return str(error)
    return f"{state.challenger} is rolled back by order of {ACTOR}"


def _differs(seen: Seen, registry: RegistryAliases, alias: str, number: str | None) -> str:
    """Set an alias as the ledger has it; what was done, empty for nothing."""
    present = seen.aliases.get(alias)
    if present == number:
        return ""
    registry.point(alias, number)
    return f"alias {alias} pointed to {present or 'nothing'}; set to {number or 'nothing'} as the ledger has it"
