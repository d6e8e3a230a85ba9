"""What each sensor asks for, by what ledger, logs and summary say; no model, no MLflow server, no run."""

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from dpo_pipeline.core.curation import CurationSummary
from dpo_pipeline.core.rollout import HARM
from dpo_pipeline.core.votes import encode_preference
from dpo_pipeline.definitions import defs
from dpo_pipeline.loop.attempts import attempt_of, conclude
from dpo_pipeline.loop.curate import rebuild_warehouse
from dpo_pipeline.resources import LoopResource
from dpo_pipeline.settings import load_settings
from dpo_pipeline.stores.curation import publish_summary
from dpo_pipeline.stores.ledger import Ledger
from dpo_pipeline.stores.log import AppendLog, file_bytes
from dpo_pipeline_tests.assets.conftest import Loop
from dpo_pipeline_tests.examples import preference, put_version
from dpo_pipeline_tests.webhook import webhook

SENSORS = (
    "baseline_missing", "new_votes", "threshold_crossed", "not_improved", "attempts_spent", "unfinished_version",
    "stage_due", "registry_changed", "registration_lost",
)  # fmt: skip


@pytest.fixture
def loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Loop]:
    """An empty data folder, an instance in memory, and an address where no MLflow is."""
    monkeypatch.setenv("DPO_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("DPO_MLFLOW_URL", "http://127.0.0.1:9")
    with dg.DagsterInstance.ephemeral() as instance:
        yield Loop(load_settings(), instance)


@pytest.fixture
def ledger(loop: Loop) -> Iterator[Ledger]:
    """v1.0 is champion and registered."""
    with Ledger(loop.settings.ledger_address) as opened:
        put_version(opened, "v1.0", status="trained", adapter_sha="0" * 64, mlflow_version="1")
        opened.install_champion("v1.0", actor="test")
        yield opened


def keys(loop: Loop, sensor: str) -> list[tuple[str | None, str | None]]:
    return [(request.run_key, request.partition_key) for request in loop.tick(sensor)]


def test_in_an_empty_folder_only_the_baseline_is_asked_for(loop: Loop) -> None:
    asked = {sensor: keys(loop, sensor) for sensor in SENSORS}
    assert asked.pop("baseline_missing") == [("no-baseline#1", "v1.0")]
    assert not any(asked.values()), asked


def test_with_a_champion_and_no_votes_nothing_is_asked_for(loop: Loop, ledger: Ledger) -> None:
    assert {sensor: keys(loop, sensor) for sensor in SENSORS} == {sensor: [] for sensor in SENSORS}


def test_assets_that_only_later_versions_have_say_once_that_v10_has_nothing(loop: Loop, ledger: Ledger) -> None:
    sensor, before = defs.get_repository_def().get_sensor_def("baseline_missing"), ledger.versions()

    def look(cursor: str | None) -> dg.SensorResult:
        resources = {"loop": LoopResource()}
        with dg.build_sensor_context(instance=loop.instance, cursor=cursor, resources=resources) as context:
            found = sensor(context)
        assert isinstance(found, dg.SensorResult) and not found.run_requests
        return found

    assert look(None).asset_events == [], "Dagster's folder was deleted: it knows of no v1.0"
    loop.instance.add_dynamic_partitions("versions", ["v1.0"])
    first = look(None)
    told = [event for event in first.asset_events if isinstance(event, dg.AssetMaterialization)]
    partitioned = {each.key for each in defs.resolve_all_asset_specs() if each.partitions_def}
    assert {each.asset_key for each in told} | {dg.AssetKey("model_version")} == partitioned
    assert all(each.partition == "v1.0" and "Nothing was made" in str(each.description) for each in told)
    assert look(first.cursor).asset_events == [] and ledger.versions() == before


def test_a_log_that_grew_is_ingested_and_one_that_is_rebuilt_too(loop: Loop, ledger: Ledger) -> None:
    log = AppendLog(loop.settings.prefs_log)
    log.append_all([encode_preference(preference(number)) for number in range(3)])
    size = file_bytes(loop.settings.prefs_log)
    [(first, _)] = keys(loop, "new_votes")
    assert first == f"log-0-{size}-0#1" and keys(loop, "new_votes") == [(first, None)], "one cause, one run"
    publish_summary(loop.settings.curation_summary, CurationSummary(log_offset=size, valid=3))
    assert keys(loop, "new_votes") == []
    rebuild_warehouse(loop.settings, "2026-01-01T00:00:00.000Z")
    [(again, _)] = keys(loop, "new_votes")
    assert again == f"log-0-{size}-0-rebuilt-2026-01-01T00:00:00.000Z#1", "Dagster ignores a key that was used"
    publish_summary(loop.settings.curation_summary, CurationSummary(log_offset=size + 1))
    assert keys(loop, "new_votes") == [(f"log-replaced-{size}-{size + 1}#1", None)]


def test_a_rollback_for_harm_asks_for_its_pairs_to_be_set_aside(loop: Loop, ledger: Ledger) -> None:
    put_version(ledger, "v1.1", status="registered", pairs_seen=100)
    ledger.start_rollout("v1.1", ledger.deployment().epoch, ("test",), "test")
    publish_summary(loop.settings.curation_summary, CurationSummary(valid=100))
    assert keys(loop, "new_votes") == []
    ledger.roll_back(ledger.deployment().epoch, (HARM, "crash rate"), {}, "loop")
    assert keys(loop, "new_votes") == [("rolled-back-v1.1#1", None)]
    assert keys(loop, "threshold_crossed") == [], "not before"
    publish_summary(loop.settings.curation_summary, CurationSummary(valid=100, suspects=("v1.1",)))
    assert keys(loop, "new_votes") == []


def test_a_crossing_asks_for_the_next_version_once(loop: Loop, ledger: Ledger) -> None:
    for valid, expected in ((99, []), (100, [("v1.1-attempt1-crossing1#1", "v1.1")]), (250, [("crossing2#1", "v1.1")])):
        publish_summary(loop.settings.curation_summary, CurationSummary(valid=valid))
        found = keys(loop, "threshold_crossed")
        assert [(str(key)[-len(want) :], name) for (key, name), (want, _) in zip(found, expected, strict=True)] == [
            *expected
        ]
    put_version(ledger, "v1.1", status="registered", pairs_seen=100)
    ledger.start_rollout("v1.1", ledger.deployment().epoch, ("test",), "test")
    assert keys(loop, "threshold_crossed") == [], "one version at a time"


def test_a_rollout_is_looked_at_as_often_as_its_policy_says(loop: Loop, ledger: Ledger) -> None:
    put_version(ledger, "v1.1", status="registered")
    ledger.start_rollout("v1.1", ledger.deployment().epoch, ("test",), "test")
    assert keys(loop, "stage_due") == [(f"v1.1-epoch{ledger.deployment().epoch}#1", "v1.1")]


def test_a_version_that_was_deleted_in_mlflow_is_registered_again(loop: Loop, ledger: Ledger) -> None:
    ledger.note_mlflow_version("v1.0", None)
    assert keys(loop, "baseline_missing") == [], "it is built"
    assert keys(loop, "registration_lost") == [("v1.0-not-in-mlflow#1", "v1.0")]
    # One that cannot be registered (its adapter is gone, say) holds up no other.
    put_version(ledger, "v1.1", status="retired", mlflow_version=None)
    run = loop.instance.create_run_for_job(
        defs.resolve_job_def("register_version"), tags={"cause": "v1.0-not-in-mlflow"}
    )
    loop.instance.report_run_failed(run)
    assert keys(loop, "registration_lost") == [("v1.1-not-in-mlflow#1", "v1.1")]


def test_a_version_that_was_rolled_back_is_rebuilt_by_its_own_recipe(loop: Loop, ledger: Ledger) -> None:
    own = loop.settings.recipe.model_copy(update={"learning_rate": 0.123})
    record = put_version(ledger, "v1.1", status="rolled_back", attempt=2, recipe=own.model_dump(mode="json"))
    assert attempt_of(loop.settings, record).recipe.learning_rate == 0.123
    given_up = put_version(ledger, "v1.1", status="given_up")
    assert attempt_of(loop.settings, given_up).number == 3 and attempt_of(loop.settings, given_up).recipe != own


@pytest.mark.slow
def test_after_three_attempts_the_champion_stays_and_people_are_told(
    loop: Loop, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = loop.settings.recipe.model_dump(mode="json")
    evaluation = {"length_ratio": 1.1, "measured": {"drift": {"kl_per_token": 0.01}}}
    told = {"rewards/margins": 0.8, "rewards/chosen": 0.0}
    put_version(
        ledger, "v1.1", status="inconclusive", attempt=2, recipe=recipe, win_rate=0.53, evaluation=evaluation,
        training_metrics=told, pairs=60, parent="v1.0",
    )  # fmt: skip
    [request] = loop.tick("not_improved")
    assert (request.run_key, request.partition_key) == ("v1.1-attempt3-retry#1", "v1.1")
    assert not request.run_config, "what is due is asked of the ledger, by sensor and launchpad alike"
    due = attempt_of(loop.settings, ledger.version("v1.1"))
    assert (due.number, due.recipe.epochs) == (3, 3.0) and request.tags["why"] == due.why
    # A retry that failed before it recorded itself (here there are no pairs) is not the end of it.
    assert not loop.run("train_version", "v1.1").success and ledger.version("v1.1").status == "inconclusive"
    assert [each.run_key for each in loop.tick("not_improved")] == ["v1.1-attempt3-retry#1"]
    # A change that switches something off comes out as the recipe it was.
    longer = {**evaluation, "length_ratio": 2.0, "controlled": 0.4, "controlled_error": 0.02}
    put_version(ledger, "v1.1", evaluation=longer, win_rate=0.45)
    due = attempt_of(loop.settings, ledger.version("v1.1"))
    assert (due.recipe.loss_type, due.recipe.loss_weights) == (("sigmoid_norm",), None)
    assert conclude(loop.settings, ledger, ledger.version("v1.1")) and ledger.version("v1.1").status == "inconclusive"
    # The process of the last attempt was killed before it said so: a run of its own gives the version up.
    put_version(ledger, "v1.1", attempt=3)
    assert loop.tick("not_improved") == []
    [request] = loop.tick("attempts_spent")
    assert (request.run_key, request.partition_key) == ("v1.1-attempt3-spent#1", "v1.1")
    assert ledger.version("v1.1").status == "inconclusive", "a sensor changes nothing"
    with webhook() as (address, received):
        monkeypatch.setenv("DPO_NOTIFICATIONS__URLS", address)
        assert loop.run("give_up_version", "v1.1").success and ledger.version("v1.1").status == "given_up"
    assert loop.tick("attempts_spent") == []
    assert [each["title"] for each in received] == ["v1.1 is given up after 3 attempts"]
    assert received[0]["message"].startswith("the champion stays: ")
    assert ledger.deployment().champion == "v1.0"


def test_an_unfinished_version_is_continued(loop: Loop, ledger: Ledger) -> None:
    assert loop.tick("unfinished_version") == [], "v1.0 belongs to baseline_missing"
    recipe = loop.settings.recipe.model_copy(update={"beta": 0.3}).model_dump(mode="json")
    put_version(ledger, "v1.1", status="training", attempt=2, recipe=recipe, parent="v1.0")
    for status, job in (
        ("training", "train_version"),
        ("trained", "train_version"),
        ("improved", "train_version"),
        ("registered", "decide_rollout"),
    ):
        record = put_version(ledger, "v1.1", status=status)
        [request] = loop.tick("unfinished_version")
        assert (request.run_key, request.job_name) == (f"v1.1-attempt2-{status}#1", job)
        due = attempt_of(loop.settings, record)
        assert (due.number, due.recipe.beta) == (2, 0.3), "it stays the version that it was"
    for status in ("not_improved", "rolled_back", "retired", "given_up"):
        put_version(ledger, "v1.1", status=status)
        assert loop.tick("unfinished_version") == [], status
    put_version(ledger, "v1.1", status="registered")
    ledger.start_rollout("v1.1", ledger.deployment().epoch, ("improved",), "test")
    assert loop.tick("unfinished_version") == []
