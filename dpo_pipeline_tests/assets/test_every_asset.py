"""Every asset by itself, as by hand: what it leaves, and that no click changes what was accepted.

Without a model, MLflow or a file outside of the test's folder; `test_accepted_versions` does the same with all of them.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import dagster as dg
import pytest

from dpo_pipeline.core.serving_records import FeedbackRecord
from dpo_pipeline.core.votes import encode_preference
from dpo_pipeline.definitions import defs
from dpo_pipeline.settings import load_settings
from dpo_pipeline.stores.ledger import Ledger, utc_now
from dpo_pipeline.stores.log import AppendLog
from dpo_pipeline.stores.serving_log import ServingLog
from dpo_pipeline_tests.assets.conftest import Loop
from dpo_pipeline_tests.assets.standins import resources
from dpo_pipeline_tests.assets.test_accepted_versions import all_of_it, told
from dpo_pipeline_tests.examples import preference, request

GRAPH = defs.resolve_asset_graph()
ASSETS = [
    key.to_user_string()
    for level in GRAPH.toposorted_asset_keys_by_level
    for key in sorted(level)
    if GRAPH.get(key).is_materializable
]
"""All there are, whatever is added, each behind what it is made from."""
OF_VERSIONS = [name for name in ASSETS if defs.get_assets_def(name).partitions_def]
VOTES = 120


@dataclass
class ByHand(Loop):
    """Assets materialized one by one, with nothing that takes long."""

    resources: dict[str, Any] = field(default_factory=resources)

    def click(self, name: str, version: str | None = None, **config: Any) -> dg.ExecuteInProcessResult:
        return dg.materialize(
            [defs.get_assets_def(name)],
            instance=self.instance,
            partition_key=version if name in OF_VERSIONS else None,
            resources=self.resources,
            raise_on_error=False,
            run_config={"ops": {name: {"config": config}}} if config else None,
        )

    def shown(self, name: str, version: str | None = None) -> dict[str, Any]:
        """Its metadata, once it succeeds."""
        result = self.click(name, version)
        assert result.success, f"{name}: {told(result)}"
        [event] = result.asset_materializations_for_node(name)
        return {key: value.value for key, value in event.metadata.items()}


@pytest.fixture(scope="module")
def turned(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ByHand, dict[str, dict[str, Any]]]]:
    """People voted and said what they think, each asset was clicked once: the loop, and what each showed of itself."""
    folder, now = tmp_path_factory.mktemp("by-hand"), utc_now()
    with dg.DagsterInstance.ephemeral() as instance, pytest.MonkeyPatch.context() as patch:
        patch.setenv("DPO_DATA_DIR", str(folder))
        loop = ByHand(load_settings(), instance)
        vote(loop, range(VOTES))
        log = ServingLog(loop.settings.serving_log_dir)
        log.append_request(request(0, recorded_at=now, version="v1.0"))
        said: dict[str, Any] = {"recorded_at": now, "request_id": "r-0", "user": "ann", "version": "v1.0"}
        log.append(FeedbackRecord(event_id="thumb", signal="thumb", value="up", **said))
        log.close()
        instance.add_dynamic_partitions("versions", ["v1.0", "v1.1"])
        assert loop.shown("base_model") and loop.shown("sft_adapter") and loop.shown("model_version", "v1.0")
        yield loop, {name: loop.shown(name, "v1.1") for name in ASSETS}


@pytest.fixture
def loop(turned: tuple[ByHand, Any], monkeypatch: pytest.MonkeyPatch) -> ByHand:
    monkeypatch.setenv("DPO_DATA_DIR", str(turned[0].settings.data_dir))
    return turned[0]


def vote(loop: ByHand, numbers: range) -> None:
    lines = [encode_preference(preference(number, recorded_at=utc_now())) for number in numbers]
    AppendLog(loop.settings.prefs_log).append_all(lines)


def test_each_shows_what_it_made(turned: tuple[ByHand, dict[str, dict[str, Any]]]) -> None:
    shown = turned[1]
    assert shown["preferences"]["recorded"] == shown["validated_pairs"]["valid"] == VOTES
    assert shown["feedback"]["events"] == shown["requests"]["requests"] == 1
    assert "| judgement | empty | 1 |" in shown["labelled_answers"]["left_out"], "whose text was not kept"
    assert "DPO_AUGMENTATION__ENABLED" in shown["synthetic_pairs"]["why"]
    assert shown["dpo_dataset"]["train_pairs"] + shown["dpo_dataset"]["eval_pairs"] <= VOTES
    assert shown["trained_adapter"]["attempt"] == 1 and shown["trained_adapter"]["mlflow_run"].endswith("/run-2")
    assert (shown["eval_report"]["verdict"], shown["eval_report"]["parent"]) == ("improved", "v1.0")
    assert shown["model_version"]["mlflow_version"] == "2"
    assert (shown["rollout_decision"]["decision"], shown["rollout_decision"]["stage"]) == ("promote", "staging")
    assert "No votes between two versions" in shown["leaderboard"]["trouble"]
    assert shown["monitoring_report"]["report"]["preferences_collected"] == VOTES
    assert "Too few versions" in shown["improvement_trajectory"]["finding"]
    assert shown["base_model"]["sha256"] and shown["sft_adapter"]["sha256"] != shown["trained_adapter"]["sha256"]
    assert shown.keys() == set(ASSETS), "say here what a new asset shows"


@pytest.mark.slow
def test_no_click_changes_what_was_accepted(loop: ByHand, monkeypatch: pytest.MonkeyPatch) -> None:
    with Ledger(loop.settings.ledger_address) as ledger:
        for stage in ("canary", "small", "half", "full"):
            ledger.promote(stage, ledger.deployment().epoch, ("test",), {}, "test")
    before = all_of_it(loop)
    assert [each["status"] for each in before["versions"]] == ["retired", "champion"]

    of_v10 = {("dpo_dataset", "v1.0"), ("trained_adapter", "v1.0"), ("eval_report", "v1.0")}
    assert refused(loop) == of_v10, "v1.0 has no pairs and no parent; all else comes out as it is recorded"
    assert all_of_it(loop) == before

    vote(loop, range(VOTES, VOTES + 20))
    changed = {"RECIPE__BETA": "0.5", "SFT__EPOCHS": "0.1", "EVALUATION__EVAL_SHARE": "0.3",
               "COLLECTION__HOLDOUT_SHARE": "0.4", "QUALITY__MORE_DETAILED": "false"}  # fmt: skip
    for name, value in changed.items():
        monkeypatch.setenv(f"DPO_{name}", value)
    assert refused(loop) == of_v10 | {("sft_adapter", None), ("dpo_dataset", "v1.1")}
    assert "RebuildDiffers" in told(loop.click("trained_adapter", "v1.1", recipe={"beta": 0.7}))
    assert all_of_it(loop) == before


def refused(loop: ByHand) -> set[tuple[str, str | None]]:
    """Which of all assets and partitions are not made when each is clicked. Each refusal says what to do instead."""
    found = set()
    for name in ASSETS:
        for version in ("v1.0", "v1.1") if name in OF_VERSIONS else (None,):
            result = loop.click(name, version)
            if not result.success:
                assert re.search(r"(RebuildDiffers|ArtifactMissing): .*(train|Materialize)", told(result)), told(result)
                found.add((name, version))
    return found
