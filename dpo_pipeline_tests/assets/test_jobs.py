"""The jobs as Dagster runs them: baseline, curation, training, decisions; sensors ask for each exactly once."""

import itertools
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest

from dpo_pipeline.core.exposure import gets_challenger
from dpo_pipeline.core.serving_records import RequestRecord
from dpo_pipeline.core.votes import encode_preference
from dpo_pipeline.errors import StaleEpoch
from dpo_pipeline.in_words import spoken
from dpo_pipeline.loop.attempts import attempt_of
from dpo_pipeline.loop.curate import rebuild_warehouse
from dpo_pipeline.loop.import_pairs import import_file
from dpo_pipeline.ml.base_model import locate_base
from dpo_pipeline.ml.generation import GenerationRequest, Generator
from dpo_pipeline.settings import Settings, load_settings
from dpo_pipeline.status import loop_status
from dpo_pipeline.stores import artifacts
from dpo_pipeline.stores.bank import read_bank
from dpo_pipeline.stores.ledger import Ledger, VersionRecord, utc_now
from dpo_pipeline.stores.log import AppendLog
from dpo_pipeline.stores.registry import Registry
from dpo_pipeline.stores.synthetic import read_synthetic
from dpo_pipeline_tests.assets.conftest import REGISTERING, Loop
from dpo_pipeline_tests.examples import SHARED_DATA, preference, put_version
from dpo_pipeline_tests.programs_under_test import mlflow_server
from dpo_pipeline_tests.webhook import webhook

pytestmark = pytest.mark.slow


def add_votes(settings: Settings, count: int, start: int = 0) -> None:
    """People who chose the detailed answer to a question of the bank."""
    questions = read_bank(settings.bank_dir)
    lines = []
    for i in range(start, start + count):
        question = questions[i % len(questions)]
        lines.append(
            encode_preference(
                preference(
                    i,
                    prompt=question.question,
                    category=question.category,
                    response_a=question.detailed[i // len(questions) % 3],
                    response_b=question.terse[i // len(questions) % 3],
                    annotator=f"person-{i % 12}",
                )
            )
        )
    AppendLog(settings.prefs_log).append_all(lines)


def requests_of(tick: list[Any]) -> list[tuple[str | None, str | None]]:
    return [(request.run_key, request.partition_key) for request in tick]


@pytest.mark.nightly
def test_from_an_empty_house_to_a_decided_version(loop: Loop) -> None:
    assert requests_of(loop.tick("baseline_missing")) == [("no-baseline#1", "v1.0")]
    assert loop.run("build_baseline", "v1.0").success
    assert requests_of(loop.tick("baseline_missing")) == []
    assert loop_status(loop.settings)["champion"] == "v1.0"

    assert requests_of(loop.tick("new_votes")) == []
    add_votes(loop.settings, 60)
    [(first, _)] = requests_of(loop.tick("new_votes"))
    assert requests_of(loop.tick("new_votes"))[0][0] == first  # the same cause asks for the same run
    assert loop.run("ingest_and_validate").success
    assert requests_of(loop.tick("new_votes")) == []
    rebuild_warehouse(loop.settings, utc_now())
    [(rebuilt, _)] = requests_of(loop.tick("new_votes"))
    assert rebuilt != first, "a key that was used would be ignored"
    assert loop.run("ingest_and_validate").success and requests_of(loop.tick("new_votes")) == []
    assert requests_of(loop.tick("threshold_crossed")) == []

    add_votes(loop.settings, 90, start=60)
    assert loop.run("ingest_and_validate").success
    crossing = requests_of(loop.tick("threshold_crossed"))
    assert crossing == [("v1.1-attempt1-crossing1#1", "v1.1")] == requests_of(loop.tick("threshold_crossed"))

    result = loop.run("train_version", "v1.1", attempt=1, recipe={"learning_rate": 1e-3, "epochs": 1})
    with Ledger(loop.settings.ledger_address) as ledger:
        record = ledger.version("v1.1")
        assert record.parent == "v1.0" and record.adapter_sha and record.dataset_hash and record.win_rate is not None
        assert record.mlflow_run
        page = loop.settings.reports_dir / "evaluation" / "v1.1-attempt1.html"
        told = page.read_text()
        assert record.evaluation and f"{spoken(record.evaluation['verdict']).capitalize()}: wins" in told
        assert "<svg" in told
        assert "http" not in told.split("</style>")[1].replace("http://www.w3.org", ""), "nothing comes from elsewhere"
        assert evaluation_files(loop, record.mlflow_run) == {"v1.1-attempt1.html", "verdict.json"}
        assert_training_is_told(loop, record, result.run_id)
        told_of_v10 = version_tags(loop, base_number(ledger))
        assert told_of_v10["training_data"].endswith("demonstrations of the question bank")
        assert told_of_v10["avg_response_length"].endswith(" words"), "measured as the parent of v1.1"
        if result.success:
            assert record.status == "rolling_out" and ledger.deployment().stage == "staging"
        else:  # a base model trained for a moment need not improve; then nothing was registered
            assert record.status in ("not_improved", "inconclusive") and record.mlflow_version is None
            [(key, partition)] = requests_of(loop.tick("not_improved"))
            assert (key, partition) == ("v1.1-attempt2-retry#1", "v1.1")
        assert requests_of(loop.tick("threshold_crossed")) == []

        # Rolled back meanwhile: without any config it is rebuilt from what is recorded, and stays what it is.
        put_version(ledger, "v1.1", status="rolled_back")
        loop.run("train_version", "v1.1")
        rebuilt = ledger.version("v1.1")
        assert (rebuilt.status, rebuilt.adapter_sha) == ("rolled_back", record.adapter_sha)
        assert rebuilt.recipe == record.recipe

        # The next one diverges: it is no improvement, and the retry lowers the learning rate.
        assert not loop.run("train_version", "v1.2", attempt=1, recipe={"learning_rate": 1e30}).success
        assert ledger.version("v1.2").status == "diverged"
        [request] = loop.tick("not_improved")
        assert (request.run_key, request.tags["why"][:17]) == ("v1.2-attempt2-retry#1", "the loss was NaN:")
        assert attempt_of(loop.settings, ledger.version("v1.2")).recipe.learning_rate == 1e30 / 4

    manifest = json.loads(next((loop.settings.artifacts_dir / "datasets").glob("*/manifest.json")).read_text())
    assert len(manifest["train_events"]) == manifest["pairs"]["train"] == record.pairs
    assert not set(manifest["train_events"]) & set(manifest["eval_events"])


@pytest.mark.nightly
def test_synthetic_pairs_are_made_when_asked_for_and_train_beside_peoples_own(
    loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop.build_baseline()
    assert loop.run("make_synthetic_pairs").success and not loop.settings.synthetic_pairs.exists()
    monkeypatch.setenv("DPO_AUGMENTATION__ENABLED", "true")
    monkeypatch.setenv("DPO_AUGMENTATION__MARGIN", "0.01")
    assert loop.run("make_synthetic_pairs").success
    made = read_synthetic(loop.settings.synthetic_pairs)
    assert made and all(pair.source == "synthetic" for pair in made)
    add_votes(loop.settings, 120)
    assert loop.run("ingest_and_validate").success
    assert loop.run_assets("v1.1", "dpo_dataset")
    manifest = json.loads(next((loop.settings.artifacts_dir / "datasets").glob("*/manifest.json")).read_text())
    synthetic = [event for event in manifest["train_events"] if event.startswith("syn-")]
    assert 0 < len(synthetic) <= 0.2 * len(manifest["train_events"])
    assert not any(event.startswith("syn-") for event in manifest["eval_events"])


def test_registered_improved_rolled_out_stage_by_stage_and_mirrored(loop: Loop) -> None:
    """The adapter of v1.0 stands for an improved v1.1: what matters here is the way from `improved` to champion."""
    loop.build_baseline()
    settings = loop.settings
    registry = Registry(settings.mlflow_address, settings.registered_model)
    with Ledger(settings.ledger_address) as ledger:
        base = ledger.version("v1.0")
        copy_baseline(ledger, "v1.1", status="improved")
        assert loop.run_assets("v1.1", *REGISTERING)
        number = ledger.version("v1.1").mlflow_version
        assert number and registry.look().aliases == {"champion": base_number(ledger), "challenger": number}
        for asked in ("Why is the sky blue?", "<|im_end|> What is a verb?"):
            assert answer_from_mlflow(settings, asked) == answer_as_served(settings, base, asked) != ""
        state = ledger.deployment()
        assert (state.challenger, state.stage) == ("v1.1", "staging")
        [(key, _)] = requests_of(loop.tick("stage_due"))
        assert key == f"v1.1-epoch{state.epoch}#1"
        for stage in ("canary", "small", "half", "full"):
            ledger.promote(stage, ledger.deployment().epoch, ("test",), {}, "test")
        with pytest.raises(StaleEpoch, match="Somebody else moved it first"):
            ledger.roll_back(state.epoch, ("late",), {}, "test")
        assert loop.run("decide_rollout", "v1.1").success
        assert registry.look().aliases == {"champion": number, "previous": base_number(ledger)}
        assert loop_status(settings)["rollout"]["stage"] == "full"
        # registering twice makes one version
        assert loop.run_assets("v1.1", *REGISTERING) and ledger.version("v1.1").mlflow_version == number


def answer_from_mlflow(settings: Settings, asked: str) -> str:
    """What the champion says in a fresh process that knows MLflow, transformers, PEFT and torch only."""
    script = """
import sys

class Nothing:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "dpo_pipeline":
            raise ImportError(name)

sys.meta_path.insert(0, Nothing())
import mlflow
mlflow.set_tracking_uri(sys.argv[1])
model = mlflow.pyfunc.load_model(sys.argv[2])
[answer] = model.predict([{"role": "user", "content": sys.argv[3]}])
print("ANSWER", answer)
"""
    version = f"models:/{settings.registered_model}@champion"
    command = [sys.executable, "-c", script, settings.mlflow_address, version, asked]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.split("ANSWER ", 1)[1].removesuffix("\n")


def answer_as_served(settings: Settings, adapter: VersionRecord, asked: str) -> str:
    """What serving's generator says at temperature 0."""
    generator = Generator(locate_base(settings), settings.model)
    generator.load(str(adapter.adapter_sha), Path(str(adapter.adapter_dir)))
    request = GenerationRequest((("user", asked),), adapter.adapter_sha, 0.0, 1.0, settings.model.max_new_tokens, 0)
    [answer] = generator.generate([request])
    return answer.text


@pytest.mark.nightly
def test_a_rollback_survives_its_own_process_and_mlflow(loop: Loop, tmp_path: Path, monkeypatch: Any) -> None:
    """In canary every request to v1.1 fails. The process that rolls it back is killed in the middle, and the next run
    ends the work; with v1.2 MLflow is killed instead.
    """
    with mlflow_server(tmp_path / "own-mlflow") as url:
        monkeypatch.setenv("DPO_MLFLOW_URL", url)
        assert loop.run("build_baseline", "v1.0").success
        settings = load_settings()
        registry = Registry(url, settings.registered_model)
        with Ledger(settings.ledger_address) as ledger:
            begin_canary(loop, ledger, "v1.1")
            fail_requests(settings, "v1.1", people=60)
            loop.run_killed("decide_rollout", "v1.1", "dpo_pipeline.stores.ledger", "Ledger", "roll_back")
            assert (ledger.deployment().champion, ledger.deployment().challenger) == ("v1.0", None)
            assert ledger.version("v1.1").status == "rolled_back" and "challenger" in registry.look().aliases
            assert loop.run("decide_rollout", "v1.1").success
            assert registry.look().aliases == {"champion": base_number(ledger)}
            begin_canary(loop, ledger, "v1.2")
            fail_requests(settings, "v1.2", people=60)
            for each in psutil.process_iter(["cmdline"]):
                if f"{tmp_path}/own-mlflow" in " ".join(each.info["cmdline"] or ()):
                    each.kill()
            with webhook() as (address, received):
                monkeypatch.setenv("DPO_NOTIFICATIONS__URLS", json.dumps([address]))
                assert loop.run("decide_rollout", "v1.2").success
            assert [each["title"] for each in received] == ["v1.2 is rolled back"]
            assert received[0]["message"].startswith("evidence of harm")
            assert (ledger.deployment().champion, ledger.deployment().challenger) == ("v1.0", None)
            assert ledger.version("v1.2").status == "rolled_back"
            assert ledger.decisions("v1.2")[-1].reasons[0] == "evidence of harm"


def begin_canary(loop: Loop, ledger: Ledger, name: str) -> None:
    """A version with v1.0's weights, registered and rolled out to 5 %."""
    copy_baseline(ledger, name, status="improved")
    assert loop.run_assets(name, *REGISTERING)
    ledger.promote("canary", ledger.deployment().epoch, ("test",), {}, "test")


def copy_baseline(ledger: Ledger, name: str, **fields: Any) -> None:
    """A version with v1.0's weights in a folder, and with a hash, of its own."""
    base = ledger.version("v1.0")
    folder = Path(str(base.adapter_dir)).with_name(f"copy-{name}")
    shutil.copytree(str(base.adapter_dir), folder)
    (folder / "notes.txt").write_text(f"another hash, that of {name}")
    sha = artifacts.write_manifest(folder, {"base_sha": base.base_sha, "version": name})["sha256"]
    kept = {"base_sha": base.base_sha, "mlflow_run": base.mlflow_run, "parent": "v1.0"}
    put_version(ledger, name, **kept, adapter_sha=str(sha), adapter_dir=str(folder), **fields)


def fail_requests(settings: Settings, version: str, people: int) -> None:
    """So many of the people who are served a version in canary each met one error of it."""
    served = (name for number in range(100_000) if gets_challenger(name := f"user {number}", version, 0.05))
    log = AppendLog(settings.serving_log_dir / f"{utc_now()[:10]}.jsonl")
    log.append_all(
        [
            msgspec.json.encode(
                RequestRecord(
                    request_id=f"{version}-{number}", recorded_at=utc_now(), session_id="", user=name,
                    version=version, adapter_sha="f" * 64, stage="canary", shadow=False, latency_ms=20.0, ttft_ms=None,
                    tokens=0, outcome="error",
                )
            )
            for number, name in enumerate(itertools.islice(served, people))
        ]
    )  # fmt: skip


def test_a_warehouse_that_another_process_holds_is_a_clear_error(loop: Loop, monkeypatch: Any) -> None:
    """Somebody's shell has the file open; once it is closed, the same job goes through and nothing is lost."""
    monkeypatch.setattr("dagster._utils.backoff.time.sleep", lambda seconds: None)  # its ten tries take 100 s
    add_votes(loop.settings, 20)
    path = loop.settings.warehouse_path
    path.parent.mkdir(parents=True)
    script = f"import duckdb; c = duckdb.connect({str(path)!r}); print('open', flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as shell:
        assert shell.stdin and shell.stdout and shell.stdout.readline()
        failed = loop.run("ingest_and_validate")
        assert not failed.success
        told = [event.step_failure_data.error for event in failed.all_events if event.is_step_failure]
        assert "WarehouseBusy" in str(told) and "is held by another process" in str(told)
        shell.stdin.close()
    assert loop.run("ingest_and_validate").success
    assert loop_status(loop.settings)["preferences"]["recorded"] == 20


def test_all_pairs_rejected_is_told_and_nothing_is_trained(loop: Loop) -> None:
    loop.build_baseline()
    AppendLog(loop.settings.prefs_log).append_all([encode_preference(preference(i, vote="tie")) for i in range(120)])
    assert loop.run("ingest_and_validate").success
    status = loop_status(loop.settings)["preferences"]
    assert (status["recorded"], status["valid"], status["rejected"]) == (120, 0, 120)
    assert requests_of(loop.tick("threshold_crossed")) == []
    by_hand = loop.run("train_version", "v1.1")
    assert not by_hand.success
    failure = next(event for event in by_hand.all_events if event.is_step_failure)
    assert "at least 8 pairs (one batch) on two prompts were required" in str(failure.step_failure_data.error)


def test_status_has_exactly_the_documented_keys(loop: Loop) -> None:
    loop.build_baseline()
    status = loop_status(loop.settings)
    assert list(status) == ["preferences", "feedback", "versions", "champion", "challenger", "rollout", "now", "next"]
    assert list(status["preferences"]) == [
        "recorded", "quarantined", "valid", "rejected", "set_aside", "unused", "threshold", "phase",
        "objective",
    ]  # fmt: skip
    assert list(status["versions"][0]) == [
        "name", "attempt", "status", "adapter_sha", "parent", "dataset_hash", "pairs", "win_rate", "mlflow_version",
    ]  # fmt: skip
    assert status["rollout"] is None


@pytest.mark.nightly
@pytest.mark.skipif(not SHARED_DATA.is_dir(), reason="the real pairs are not here (../shared/data)")
def test_real_pairs_with_real_dirt_go_through_the_whole_half_turn(loop: Loop, monkeypatch: Any) -> None:
    loop.build_baseline()
    files = sorted(SHARED_DATA.glob("pairs_*.jsonl"))
    reports = [import_file(path, loop.settings.prefs_log, 1 << 20) for path in files]
    rows = sum(sum(1 for line in path.read_bytes().split(b"\n") if line.strip()) for path in files)
    imported = sum(report.imported for report in reports)
    there = sum(report.already_there for report in reports)
    refused = sum(report.refused.total() for report in reports)
    assert rows == imported + there + refused == 1933
    assert [import_file(path, loop.settings.prefs_log, 1 << 20).imported for path in files] == [0] * len(files)
    monkeypatch.setenv("DPO_MODEL__MAX_LENGTH", "192")
    assert loop.run("ingest_and_validate").success
    status = loop_status(loop.settings)["preferences"]
    assert status["recorded"] == imported and status["quarantined"] == 0
    assert status["valid"] + status["rejected"] == imported
    assert 650 <= status["valid"] <= 800
    loop.run("train_version", "v1.1", attempt=1, recipe={"epochs": 0.2})
    with Ledger(loop.settings.ledger_address) as ledger:
        record = ledger.version("v1.1")
    assert record.status in ("rolling_out", "not_improved", "inconclusive") and record.evaluation
    assert Path(str(record.adapter_dir)).is_dir()


def assert_training_is_told(loop: Loop, record: VersionRecord, dagster_run: str) -> None:
    """MLflow's run of a training: recipe, curves, dataset with rows and hash, lineage."""
    from mlflow import MlflowClient

    client = MlflowClient(loop.settings.mlflow_address)
    run = client.get_run(str(record.mlflow_run))
    assert run.data.params["learning_rate"] == "0.001" and run.data.params["base_sha"] == record.base_sha
    assert run.data.tags["dagster_run_id"] == dagster_run and run.data.tags["adapter_sha"] == record.adapter_sha
    assert sum(json.loads(run.data.tags["sources"]).values()) == record.pairs, "where its pairs come from"
    assert len(client.get_metric_history(run.info.run_id, "loss")) > 1
    [told] = run.inputs.dataset_inputs
    assert json.loads(told.dataset.profile) == {"num_rows": record.pairs}
    assert json.loads(told.dataset.source)["sha256"] == record.dataset_hash


def evaluation_files(loop: Loop, run_id: str) -> set[str]:
    from mlflow import MlflowClient

    found = MlflowClient(loop.settings.mlflow_address).list_artifacts(run_id, "evaluation")
    return {Path(each.path).name for each in found}


def version_tags(loop: Loop, number: str) -> dict[str, str]:
    from mlflow import MlflowClient

    client = MlflowClient(loop.settings.mlflow_address)
    return dict(client.get_model_version(loop.settings.registered_model, number).tags)


def base_number(ledger: Ledger) -> str:
    return str(ledger.version("v1.0").mlflow_version)
