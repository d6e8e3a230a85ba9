"""A person at Dagster's own pages: definitions, a job launched by hand, sensors that train, checks that can be read.

Real webserver, daemon and MLflow; what is asked goes through Dagster's GraphQL, as its pages do, and is looked at in
Chromium.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from dpo_pipeline.automation.first_version import NOTHING
from dpo_pipeline.automation.jobs import KIND
from dpo_pipeline.program_environment import environment
from dpo_pipeline.programs import prepare
from dpo_pipeline.serving.pages.loop import RUNS_OF
from dpo_pipeline.settings import PROJECT_DIR, Settings, load_settings
from dpo_pipeline.stores.ledger import Ledger
from dpo_pipeline_tests.assets.conftest import mlflow  # noqa: F401  (fixture)
from dpo_pipeline_tests.assets.test_jobs import add_votes, copy_baseline, fail_requests
from dpo_pipeline_tests.browser import Tab, chromium, tab
from dpo_pipeline_tests.ml.conftest import project  # noqa: F401  (fixture)
from dpo_pipeline_tests.programs_under_test import eventually, free_port, serving, wait_until_answering
from dpo_pipeline_tests.serving.conftest import VARIABLES

pytestmark = pytest.mark.slow
LOCATION = {"repositoryName": "__repository__", "repositoryLocationName": "dpo_pipeline"}
FINISHED = ("SUCCESS", "FAILURE", "CANCELED")
RUNS = """query ($job: String) { runsOrError(filter: {pipelineName: $job}) {
    ... on Runs { results { id status tags { key value } } } } }"""

LAUNCH = """mutation ($run: ExecutionParams!) { launchRun(executionParams: $run) {
    ... on LaunchRunSuccess { run { id } } ... on PythonError { message } } }"""
MESSAGES = """query ($run: ID!) { logsForRun(runId: $run) {
    ... on EventConnection { events { ... on MessageEvent { message } } } } }"""
STARTED = re.compile(r"Started process for run \(pid: (\d+)\)")


@dataclass
class Dagster:
    """A running instance: its address and the settings of its loop."""

    url: str
    settings: Settings

    def ask(self, query: str, **variables: Any) -> Any:
        """The data of a GraphQL answer."""
        answer = httpx.post(f"{self.url}/graphql", json={"query": query, "variables": variables}, timeout=30).json()
        assert "errors" not in answer, answer["errors"]
        return answer["data"]

    def messages(self, run: str) -> str:
        """What a run told so far, a line an event."""
        events = self.ask(MESSAGES, run=run)["logsForRun"]["events"]
        return "\n".join(event["message"] for event in events if event)

    def finished(self, job: str, count: int = 1, seconds: float = 180) -> dict[str, Any]:
        """The newest run of a job, once this many have ended."""
        deadline = time.monotonic() + seconds
        while True:
            runs = self.ask(RUNS, job=job)["runsOrError"]["results"]
            if len(runs) >= count and all(run["status"] in FINISHED for run in runs):
                return {
                    "id": runs[0]["id"],
                    "status": runs[0]["status"],
                    **{tag["key"]: tag["value"] for tag in runs[0]["tags"]},
                }
            assert time.monotonic() < deadline, f"{job}: {runs}"
            time.sleep(0.5)


@pytest.fixture(scope="module")
def dagster(project: Settings, mlflow: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dagster]:  # noqa: F811
    data_dir = tmp_path_factory.mktemp("dagster-pages")
    shutil.copytree(project.artifacts_dir / "base", data_dir / "artifacts" / "base")
    port = free_port()
    variables = {
        "DPO_DATA_DIR": str(data_dir),
        "DPO_MLFLOW_URL": mlflow,
        "DPO_REGISTERED_MODEL": "chat-pages",
        "DPO_PORTS__DAGSTER": str(port),
        "DPO_MODEL__MAX_NEW_TOKENS": "24",
        "DPO_SFT__EPOCHS": "0.2",
        "DPO_EVALUATION__QUESTIONS": "10",
        "DPO_EVALUATION__SAMPLES": "1",
        "DPO_CADENCE__STARTUP__MIN_SAMPLES": "40",
        "DPO_CADENCE__MAX_ATTEMPTS": "1",
        "DPO_ROLLOUT__CHECK_EVERY_S": "5",
        "DPO_DAGSTER__SENSOR_INTERVAL_S": "5",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        settings = load_settings()
        prepare(settings)
        env = environment(settings)
    webserver = [str(Path(sys.executable).with_name("dagster-webserver")), "--workspace", "workspace.yaml"]
    commands = [
        [*webserver, "--host", "127.0.0.1", "--port", str(port), "--log-level", "warning"],
        [sys.executable, "-m", "dpo_pipeline.cli", "daemon"],
    ]
    running: list[subprocess.Popen[bytes]] = []
    with (data_dir / "dagster.log").open("wb") as out:
        try:
            for command in commands:
                running.append(
                    subprocess.Popen(command, cwd=PROJECT_DIR, env=env, stdout=out, stderr=out, start_new_session=True)
                )
            log = data_dir / "dagster.log"
            wait_until_answering(f"http://127.0.0.1:{port}/server_info", running, log, seconds=120)
            yield Dagster(f"http://127.0.0.1:{port}", settings)
        finally:
            for process in running:
                os.killpg(process.pid, signal.SIGTERM)
            for process in running:
                process.wait(timeout=60)


@pytest.fixture
def page(dagster: Dagster) -> Iterator[Tab]:
    with chromium() as browser, tab(browser, dagster.url, "body") as opened:
        yield opened


def test_every_asset_says_what_it_is_and_whose(dagster: Dagster) -> None:
    found = dagster.ask(
        """{ assetNodes { assetKey { path } groupName description kinds pools jobNames
             owners { ... on TeamAssetOwner { team } } } }"""
    )["assetNodes"]
    assert len(found) == 18
    sources = [asset for asset in found if asset["groupName"] == "logs"]
    assert {asset["assetKey"]["path"][0] for asset in sources} == {"vote_log", "serving_log"}
    assert all(asset["description"] and asset["kinds"] for asset in sources)
    for asset in [asset for asset in found if asset not in sources]:
        assert asset["groupName"] in ("collection", "curation", "training", "evaluation", "deployment", "monitoring")
        assert asset["description"] and asset["kinds"] and asset["owners"] == [{"team": "llmops"}]
        assert asset["jobNames"], f"{asset['assetKey']} belongs to no job that a person could launch"
    pools = {asset["assetKey"]["path"][0]: asset["pools"] for asset in found}
    assert pools["validated_pairs"] == ["warehouse"] and pools["trained_adapter"] == ["compute"]


def test_all_automation_is_on(dagster: Dagster) -> None:
    query = """query ($at: RepositorySelector!) {
        sensorsOrError(repositorySelector: $at) {
            ... on Sensors { results { name description sensorState { status } } } }
        schedulesOrError(repositorySelector: $at) {
            ... on Schedules { results { name description scheduleState { status } } } } }"""
    found = dagster.ask(query, at=LOCATION)
    sensors, schedules = found["sensorsOrError"]["results"], found["schedulesOrError"]["results"]
    assert len(sensors) == 10 and len(schedules) == 4
    states = [each["sensorState"] for each in sensors] + [each["scheduleState"] for each in schedules]
    assert {state["status"] for state in states} == {"RUNNING"}
    assert all(each["description"] for each in [*sensors, *schedules])


def materialized(dagster: Dagster, version: str) -> set[str]:
    """Assets whose cell of this version is not missing."""
    query = """{ assetNodes { assetKey { path } isPartitioned assetPartitionStatuses {
        ... on DefaultPartitionStatuses { materializedPartitions } } } }"""
    nodes = [node for node in dagster.ask(query)["assetNodes"] if node["isPartitioned"]]
    return {
        node["assetKey"]["path"][0]
        for node in nodes
        if version in node["assetPartitionStatuses"]["materializedPartitions"]
    }


def test_sensors_build_the_baseline_judge_votes_and_train(dagster: Dagster) -> None:
    baseline = dagster.finished("build_baseline")
    assert baseline["status"] == "SUCCESS" and baseline["dagster/sensor_name"] == "baseline_missing"
    assert baseline[KIND] == "training"
    wanted = {asset.key.path[0] for asset in NOTHING}
    assert eventually(lambda: materialized(dagster, "v1.0"), lambda found: wanted < found, seconds=60) == {
        *wanted,
        "model_version",
    }
    add_votes(dagster.settings, 60)
    judged = dagster.finished("ingest_and_validate")
    assert judged["status"] == "SUCCESS" and judged["dagster/sensor_name"] == "new_votes"
    assert judged[KIND] == "ingest"
    trained = dagster.finished("train_version")
    assert (trained["dagster/partition"], trained["dagster/sensor_name"]) == ("v1.1", "threshold_crossed")
    assert "40 required" in trained["why"]


def test_the_checks_can_be_read(dagster: Dagster) -> None:
    """After the training: `improved` was evaluated, and says why it passed or not, with the win rate."""
    dagster.finished("train_version")
    query = """query ($key: AssetKeyInput!) { assetNodeOrError(assetKey: $key) { ... on AssetNode {
        assetChecksOrError { ... on AssetChecks { checks { name blocking description
            executionForLatestMaterialization { status evaluation { success description metadataEntries {
                label ... on TextMetadataEntry { text } ... on FloatMetadataEntry { floatValue } } } } } } } } } }"""

    def checks(asset: str) -> dict[str, Any]:
        node = dagster.ask(query, key={"path": [asset]})["assetNodeOrError"]
        return {check["name"]: check for check in node["assetChecksOrError"]["checks"]}

    improved = checks("eval_report")["improved"]
    assert improved["blocking"]
    evaluation = improved["executionForLatestMaterialization"]["evaluation"]
    assert isinstance(evaluation["success"], bool) and "win rate" in evaluation["description"]
    told = {each["label"]: each.get("text") or each.get("floatValue") for each in evaluation["metadataEntries"]}
    assert told["partition"] == "v1.1" and 0 <= told["value"] <= 1 and "at least 0.55" in told["limit"]
    for each in checks("validated_pairs").values():
        found = each["executionForLatestMaterialization"]["evaluation"]["metadataEntries"]
        assert {entry["label"] for entry in found} == {"value", "limit"}


def test_a_job_launched_by_hand_needs_no_config(dagster: Dagster, page: Tab) -> None:
    """By clicking: the job's page, *Materialize all*, and the run ends well."""
    before = len(dagster.ask(RUNS, job="write_report")["runsOrError"]["results"])
    page.go(f"{dagster.url}/locations/dpo_pipeline/jobs/write_report")
    page.page.get_by_role("button", name="Materialize all").click()
    run = dagster.finished("write_report", before + 1)
    assert run["status"] == "SUCCESS", run
    page.go(f"{dagster.url}/assets/monitoring_report")
    page.page.get_by_text("next_actions").first.wait_for()


@pytest.mark.nightly
def test_a_run_whose_process_is_killed_is_started_again(dagster: Dagster) -> None:
    before = len(dagster.ask(RUNS, job="write_report")["runsOrError"]["results"])
    wanted = {"selector": {**LOCATION, "jobName": "write_report"}, "runConfigData": {}, "mode": "default"}
    run = dagster.ask(LAUNCH, run=wanted)["launchRun"]["run"]["id"]
    said = eventually(lambda: dagster.messages(run), lambda said: STARTED.search(said) is not None, seconds=60)
    started = STARTED.search(said)
    assert started, said
    os.kill(int(started[1]), signal.SIGKILL)
    again = dagster.finished("write_report", before + 2)
    assert (again["status"], again["dagster/parent_run_id"]) == ("SUCCESS", run)


def test_a_persons_way_through_the_pages(dagster: Dagster, page: Tab) -> None:
    """The walk of the guide: the graph, what acted, the run, the report of the version with its check."""
    run = dagster.finished("train_version")
    walk = [
        ("/asset-groups", "deployment", "dagster_lineage.png"),
        ("/automation", "threshold_crossed", "dagster_automation.png"),
        (f"/runs/{run['id']}", "trained_adapter", "dagster_run.png"),
        ("/assets/eval_report?view=partitions&partition=v1.1", "on 10 questions", "dagster_report.png"),
        ("/assets/eval_report?view=checks", "blocking", "dagster_check.png"),
    ]
    # Below that they show where the files of this test lie.
    heights = {"dagster_run.png": 365, "dagster_report.png": 555}
    for path, wanted, name in walk:
        page.go(dagster.url + path)
        page.page.get_by_text(wanted).first.wait_for()
        page.page.wait_for_load_state("networkidle")
        page.picture(name, heights.get(name))
    page.go(dagster.url + RUNS_OF.format(version="v1.1"))  # as the loop's page leads there
    page.page.get_by_text("train_version").first.wait_for()
    assert page.page.get_by_text("build_baseline").count() == 0, "of this version alone"


@pytest.mark.nightly
def test_harm_takes_a_version_back_while_nobody_looks(dagster: Dagster) -> None:
    """Errors of a canary come into the serving log; sensor, run, ledger and server do the rest."""
    settings = dagster.settings
    with Ledger(settings.ledger_address) as ledger, serving(settings.data_dir, **VARIABLES) as server:
        copy_baseline(ledger, "v1.2", status="registered")
        ledger.start_rollout("v1.2", ledger.deployment().epoch, ("test",), "test")
        ledger.promote("canary", ledger.deployment().epoch, ("test",), {}, "test")

        def rollout() -> Any:
            return server.client.get("/v1/rollout").json()

        assert eventually(rollout, lambda seen: seen["traffic"] == 0.05)["version"] == "v1.2"
        fail_requests(settings, "v1.2", 40)
        seen = eventually(rollout, lambda seen: seen["version"] is None, seconds=120)
        last = ledger.decisions()[-1]
        assert (last.version, last.decision, seen["champion"]) == ("v1.2", "rollback", "v1.0")
        assert last.actor.startswith("dagster run") and "error rate" in " ".join(last.reasons), last.reasons
        assert ledger.version("v1.2").status == "rolled_back"
