"""What a person does in the MLflow registry, by a real client on a real server: followed, refused, or set back."""

import json
import shutil
import time
from collections.abc import Iterator
from dataclasses import asdict
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from dpo_pipeline.core.safety import SafetyCheck
from dpo_pipeline.errors import RegistryRefused, RegistryUnavailable
from dpo_pipeline.loop.manual_actions import make_champion
from dpo_pipeline.loop.reconcile_registry import REFUSED_TAG, reconcile_registry
from dpo_pipeline.request_errors import OrderRefused
from dpo_pipeline.settings import Settings
from dpo_pipeline.stores.ledger import Ledger
from dpo_pipeline.stores.registry import Registry
from dpo_pipeline.stores.training_runs import TrainingRun
from dpo_pipeline_tests.assets.conftest import REGISTERING, Loop, copy_trained, looping
from dpo_pipeline_tests.assets.test_jobs import begin_canary, copy_baseline
from dpo_pipeline_tests.examples import put_version
from dpo_pipeline_tests.programs_under_test import eventually, serving
from dpo_pipeline_tests.webhook import webhook

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def registered(project: Settings, baseline: Path, mlflow: str, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """v1.0 was champion, v1.1 is; both registered and mirrored; v1.1's adapter is a copy of v1.0's."""
    folder = tmp_path_factory.mktemp("registered")
    copy_trained(project, baseline, folder)
    with looping(folder, mlflow, f"chat-{folder.name}") as loop, Ledger(loop.settings.ledger_address) as ledger:
        loop.build_baseline()
        copy_baseline(ledger, "v1.1", status="improved")
        assert loop.run_assets("v1.1", *REGISTERING)
        for stage in ("canary", "small", "half", "full"):
            ledger.promote(stage, ledger.deployment().epoch, ("test",), {}, "test")
        assert loop.run("decide_rollout", "v1.1").success
        return loop.settings


@pytest.fixture
def loop(registered: Settings, tmp_path: Path) -> Iterator[Loop]:
    """A copy of that, in MLflow too: what one test does there, another does not see."""
    from mlflow import MlflowClient

    model, client = f"chat-{tmp_path.name}", MlflowClient(registered.mlflow_address)
    client.create_registered_model(model)
    versions = client.search_model_versions(f"name = '{registered.registered_model}'")
    for each in sorted(versions, key=lambda each: int(each.version)):
        client.create_model_version(model, each.source, each.run_id, each.tags, description=each.description)
    for alias, number in client.get_registered_model(registered.registered_model).aliases.items():
        client.set_registered_model_alias(model, alias, number)
    shutil.copytree(
        registered.data_dir, tmp_path, dirs_exist_ok=True, ignore=shutil.ignore_patterns("dagster-instance")
    )
    with looping(tmp_path, registered.mlflow_address, model) as made:
        with Ledger(made.settings.ledger_address) as ledger:
            ledger.relocate(str(registered.data_dir), str(tmp_path))
        yield made


@pytest.fixture
def deployed(loop: Loop) -> Iterator[tuple[Ledger, Registry, Any]]:
    from mlflow import MlflowClient

    settings = loop.settings
    registry = Registry(settings.mlflow_address, settings.registered_model)
    with Ledger(settings.ledger_address) as ledger:
        yield ledger, registry, (MlflowClient(settings.mlflow_address), settings.registered_model)


def test_moving_champion_is_an_order_and_carried_out_once(loop: Loop, deployed: Any) -> None:
    ledger, registry, (client, model) = deployed
    assert reconcile_registry(loop.settings, ledger, registry) == []
    old, new = ledger.version("v1.0").mlflow_version, ledger.version("v1.1").mlflow_version
    client.set_registered_model_alias(model, "champion", old)
    told = reconcile_registry(loop.settings, ledger, registry)
    assert told[0] == "v1.0 is champion by manual promotion in MLflow"
    state = ledger.deployment()
    # The way back: harm must not lead to what the person left.
    assert (state.champion, state.previous, state.stage) == ("v1.0", None, None)
    assert "previous" not in client.get_registered_model(model).aliases
    assert reconcile_registry(loop.settings, ledger, registry) == []
    last = ledger.decisions()[-1]
    assert (last.decision, last.actor) == ("manual promotion", "a person in MLflow")
    # And back again.
    client.set_registered_model_alias(model, "champion", new)
    assert reconcile_registry(loop.settings, ledger, registry) and ledger.deployment().champion == "v1.1"
    assert (ledger.deployment().previous, ledger.deployment().stage) == ("v1.0", "full")
    assert loop.tick("registry_changed") == []


def test_challenger_moved_onto_the_champions_version_is_taken_back(loop: Loop, deployed: Any) -> None:
    ledger, registry, (client, model) = deployed
    begin_canary(loop, ledger, "v1.2")
    assert reconcile_registry(loop.settings, ledger, registry) == []
    client.delete_registered_model_alias(model, "challenger")
    assert "challenger pointed to nothing" in reconcile_registry(loop.settings, ledger, registry)[0], "an accident"
    client.set_registered_model_alias(model, "challenger", ledger.version("v1.1").mlflow_version)
    told = reconcile_registry(loop.settings, ledger, registry)
    assert told[0] == "v1.2 is rolled back in MLflow: challenger was moved to the champion's version"
    assert (ledger.version("v1.2").status, ledger.deployment().challenger) == ("rolled_back", None)
    assert (
        "challenger" not in client.get_registered_model(model).aliases
        and reconcile_registry(loop.settings, ledger, registry) == []
    )


def test_in_an_mlflow_that_asks_nobody_an_order_waits_for_an_operator(loop: Loop, deployed: Any) -> None:
    ledger, registry, (client, model) = deployed
    reconcile_registry(loop.settings, ledger, registry)
    access = loop.settings.access.model_copy(update={"mlflow_orders": "own"})
    settings = loop.settings.model_copy(update={"access": access})
    client.set_registered_model_alias(model, "champion", ledger.version("v1.0").mlflow_version)
    told = reconcile_registry(settings, ledger, registry)
    assert "An operator confirms it: dpo rollout make-champion v1.0." in told[0]
    assert ledger.deployment().champion == "v1.1" and ledger.decisions()[-1].decision == "refused"
    assert make_champion(settings, ledger, "v1.0", "looked at it", "Ann").champion == "v1.0"
    with pytest.raises(OrderRefused, match="champion already"):
        make_champion(settings, ledger, "v1.0", "again", "Ann")
    reconcile_registry(settings, ledger, registry)
    assert client.get_model_version_by_alias(model, "champion").version == ledger.version("v1.0").mlflow_version


def test_a_404_of_a_proxy_is_no_deletion(loop: Loop, deployed: Any) -> None:
    ledger, _, (_, model) = deployed
    server = HTTPServer(("127.0.0.1", 0), NotFound)
    Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        with pytest.raises(RegistryUnavailable):
            reconcile_registry(loop.settings, ledger, Registry(f"http://127.0.0.1:{server.server_port}", model))
    finally:
        server.shutdown()
        server.server_close()
    assert ledger.version("v1.0").mlflow_version and ledger.version("v1.1").mlflow_version


class NotFound(BaseHTTPRequestHandler):
    """A proxy whose MLflow is away."""

    def do_GET(self) -> None:
        self.send_error(404)

    def log_message(self, format: str, *args: Any) -> None:
        pass


def test_serving_takes_the_order_within_five_seconds_without_dagster(loop: Loop, deployed: Any) -> None:
    ledger, _, (client, model) = deployed
    variables = {
        "DPO_MLFLOW_URL": loop.settings.mlflow_address,
        "DPO_REGISTERED_MODEL": model,
        "DPO_ACCESS__MLFLOW_ORDERS": "any",
    }
    with serving(loop.settings.data_dir, **variables, DPO_ACCESS__PAGES="false") as server:
        assert server.client.get("/v1/rollout").json()["champion"] == "v1.1"
        client.set_registered_model_alias(model, "champion", ledger.version("v1.0").mlflow_version)
        given = time.monotonic()
        eventually(lambda: server.client.get("/v1/rollout").json()["champion"], lambda name: name == "v1.0")
        assert time.monotonic() - given < 5
    assert ledger.decisions()[-1].actor == "a person in MLflow"


def test_a_decision_that_comes_before_the_order_was_read_does_not_undo_it(loop: Loop, deployed: Any) -> None:
    ledger, registry, (client, model) = deployed
    reconcile_registry(loop.settings, ledger, registry)
    old = ledger.version("v1.0").mlflow_version
    client.set_registered_model_alias(model, "champion", old)
    assert loop.run("decide_rollout", "v1.1").success
    assert client.get_model_version_by_alias(model, "champion").version == old
    assert ledger.deployment().champion == "v1.0" and reconcile_registry(loop.settings, ledger, registry) == []


def test_an_order_for_a_version_that_was_taken_back_is_refused_with_the_reason(loop: Loop, deployed: Any) -> None:
    ledger, registry, (client, model) = deployed
    ledger.roll_back(ledger.deployment().epoch, ("harm",), {}, "test")
    assert ledger.deployment().champion == "v1.0"
    reconcile_registry(loop.settings, ledger, registry)
    bad = ledger.version("v1.1").mlflow_version
    client.set_registered_model_alias(model, "champion", bad)
    [told, restored] = reconcile_registry(loop.settings, ledger, registry)
    assert "refused" in told and "rolled_back" in told and "set to" in restored
    assert "rolled_back" in client.get_model_version(model, bad).tags[REFUSED_TAG]
    assert client.get_model_version_by_alias(model, "champion").version == ledger.version("v1.0").mlflow_version
    assert ledger.deployment().champion == "v1.0"
    refused = ledger.decisions("v1.1")[-1]
    assert (refused.decision, refused.actor) == ("refused", "a person in MLflow") and "rolled_back" in refused.reasons[
        0
    ]


def test_an_order_for_a_version_that_failed_its_safety_check_is_refused(loop: Loop, deployed: Any) -> None:
    ledger, registry, (client, model) = deployed
    worse = SafetyCheck(requests=20, declined=0.55, parent_declined=1.0)
    put_version(ledger, "v1.0", evaluation={"measured": {"safety": asdict(worse)}})
    asked_for = ledger.version("v1.0").mlflow_version
    client.set_registered_model_alias(model, "champion", asked_for)
    [told, restored] = reconcile_registry(loop.settings, ledger, registry)
    assert "declines 55% of 20 harmful requests, the parent 100%" in told and "set to" in restored
    assert "harmful" in client.get_model_version(model, asked_for).tags[REFUSED_TAG]
    assert ledger.deployment().champion == "v1.1"


def test_people_are_told_of_an_order_once(loop: Loop, deployed: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger, _, (client, model) = deployed
    client.set_registered_model_alias(model, "champion", ledger.version("v1.0").mlflow_version)
    with webhook() as (address, received):
        monkeypatch.setenv("DPO_NOTIFICATIONS__URLS", json.dumps([address]))
        [request] = loop.tick("registry_changed")
        assert request and ledger.deployment().champion == "v1.1", "a sensor only asks"
        assert loop.run("follow_registry").success and loop.run("follow_registry").success
        assert loop.tick("registry_changed") == []
    assert [each["title"] for each in received] == ["MLflow's registry: 1 change"]
    assert received[0]["message"] == "v1.0 is champion by manual promotion in MLflow"


def test_an_order_for_an_adapter_that_is_not_whole_is_refused(loop: Loop, deployed: Any) -> None:
    ledger, registry, (client, model) = deployed
    weights = Path(str(ledger.version("v1.0").adapter_dir)) / "adapter_model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    client.set_registered_model_alias(model, "champion", ledger.version("v1.0").mlflow_version)
    [told, _] = reconcile_registry(loop.settings, ledger, registry)
    assert "not whole" in told and ledger.deployment().champion == "v1.1"


def test_what_was_deleted_by_accident_is_repaired_and_told(loop: Loop, deployed: Any) -> None:
    ledger, registry, (client, model) = deployed
    client.delete_registered_model_alias(model, "champion")
    [told] = reconcile_registry(loop.settings, ledger, registry)
    assert told.startswith("alias champion pointed to nothing")
    gone = ledger.version("v1.1").mlflow_version
    client.delete_model_version(model, gone)
    told = " ".join(reconcile_registry(loop.settings, ledger, registry))
    assert f"version {gone} of MLflow, our v1.1, was deleted" in told
    [request] = loop.tick("registration_lost")
    assert request.partition_key == "v1.1" and loop.run("register_version", "v1.1").success
    assert loop.tick("registry_changed") == []
    again = ledger.version("v1.1").mlflow_version
    assert again and again != gone
    # One that was rolled back is part of the history, and is made again too.
    put_version(ledger, "v1.0", status="rolled_back")
    client.delete_model_version(model, ledger.version("v1.0").mlflow_version)
    reconcile_registry(loop.settings, ledger, registry)
    assert [request.partition_key for request in loop.tick("registration_lost")] == ["v1.0"]
    assert loop.run("register_version", "v1.0").success and ledger.version("v1.0").mlflow_version
    assert client.get_model_version_by_alias(model, "champion").version == again
    assert ledger.deployment().champion == "v1.1"


def test_a_model_deleted_as_a_whole_is_made_again_with_other_numbers(loop: Loop, deployed: Any) -> None:
    """Numbers begin at 1 again, and number 1 is another version now than the ledger remembers."""
    ledger, registry, (client, model) = deployed
    assert [ledger.version(name).mlflow_version for name in ("v1.0", "v1.1")] == ["1", "2"]
    client.delete_registered_model(model)
    assert loop.run("register_version", "v1.1").success and ledger.version("v1.1").mlflow_version == "1"
    assert ledger.version("v1.0").mlflow_version is None, "number 1 is another version now: v1.0 was deleted"
    assert reconcile_registry(loop.settings, ledger, registry) == []
    assert [request.partition_key for request in loop.tick("registration_lost")] == ["v1.0"]
    assert loop.run("register_version", "v1.0").success and ledger.version("v1.0").mlflow_version == "2"
    assert client.get_model_version_by_alias(model, "champion").version == "1"
    assert client.get_model_version_by_alias(model, "previous").version == "2"
    assert loop.tick("registry_changed") == []


@pytest.mark.parametrize(
    ("module", "owner", "after"),
    [
        pytest.param("mlflow", "MlflowClient", "create_registered_model", marks=pytest.mark.nightly),
        ("mlflow", "MlflowClient", "create_model_version"),
        pytest.param("dpo_pipeline.stores.registry", "Registry", "point", marks=pytest.mark.nightly),
    ],
)
def test_killed_between_artifact_version_and_alias_and_run_again(
    loop: Loop, deployed: Any, module: str, owner: str, after: str
) -> None:
    """The process of the run is killed with -9 right after one of its calls to MLflow; the next run ends the work."""
    ledger, _, (client, model) = deployed
    client.delete_registered_model(model)
    loop.run_killed("register_version", "v1.1", module, owner, after)
    assert loop.run("register_version", "v1.1").success
    [version] = client.search_model_versions(f"name = '{model}'")
    assert version.tags["adapter_sha"] == ledger.version("v1.1").adapter_sha
    assert client.get_model_version_by_alias(model, "champion").version == version.version
    assert ledger.version("v1.1").mlflow_version == version.version


def test_without_mlflow_there_are_no_orders(loop: Loop) -> None:
    with Ledger(loop.settings.ledger_address) as ledger, pytest.raises(RegistryUnavailable, match="DPO_MLFLOW_URL"):
        reconcile_registry(loop.settings, ledger, Registry("http://127.0.0.1:9", "chat"))


def test_a_deleted_experiment_is_told_with_its_cure(loop: Loop, mlflow: str, tmp_path: Path) -> None:
    from mlflow import MlflowClient

    client, name = MlflowClient(mlflow), f"deleted-{tmp_path.name}"
    client.delete_experiment(client.create_experiment(name))
    registry, described = Registry(mlflow, "chat", experiment=name), TrainingRun("v1.1", {}, {"version": "v1.1"})
    with (
        pytest.raises(RegistryRefused, match=r"mlflow experiments restore -x \d+"),
        registry.training_run(described, tmp_path, "dpo"),
    ):
        pytest.fail("nothing may be trained that cannot be recorded")
