"""From a thumb in somebody else's product to the version that learned from it, and out again when its person goes."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import dagster as dg
import msgspec
import pytest
from typer.testing import CliRunner

from dpo_pipeline.cli import app
from dpo_pipeline.core.serving_records import FeedbackRecord, RequestRecord
from dpo_pipeline.core.version_card import model_card
from dpo_pipeline.core.votes import encode_preference
from dpo_pipeline.loop.describe import card_facts
from dpo_pipeline.loop.personal_traces import traces
from dpo_pipeline.settings import Settings
from dpo_pipeline.stores import artifacts
from dpo_pipeline.stores.ledger import Ledger, VersionRecord, utc_now
from dpo_pipeline.stores.log import AppendLog
from dpo_pipeline.stores.pseudonyms import pseudonym_of, signing_key
from dpo_pipeline.stores.serving_log import read_records
from dpo_pipeline_tests.assets.conftest import Loop
from dpo_pipeline_tests.examples import LONG, SHORT, preference
from dpo_pipeline_tests.programs_under_test import Server, eventually, serving
from dpo_pipeline_tests.upstream import answered_by, model_server

pytestmark = pytest.mark.slow
WHO = "user-4711@shop.example"
LIKED, MENDED, COMPARED = (
    f"Where may my aunt Kreszentia {what}?" for what in ("grow saffron", "swim in winter", "mend an umbrella")
)
CORRECTION, COMMENT, REASON = (
    "She swims in the Möhnesee, from the eastern shore on.",
    "Kreszentia laughed about this one for a week.",
    "My aunt Kreszentia would not understand the other.",
)


def test_a_thumb_teaches_the_next_version_and_leaves_with_its_person(
    loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Thirty votes and four hundred thumbs are due for a training of their own objective, which really trains."""
    settings = loop.settings
    loop.build_baseline()
    said = say_all(settings)
    others(settings, votes=30, thumbs=400)
    assert loop.run("ingest_and_validate").success
    assert loop.run_assets(None, "feedback", "labelled_answers")
    [request] = loop.tick("threshold_crossed")
    assert request.partition_key == "v1.1" and "objective kto" in request.tags["why"]
    status = " ".join(CliRunner().invoke(app, ["status"]).output.split())
    assert "1 pairs, 401 labelled answers; the next version is trained by the objective kto" in status
    monkeypatch.setenv("DPO_RECIPE__EPOCHS", "0.2")
    assert loop.run_assets("v1.1", "dpo_dataset", "trained_adapter")
    with Ledger(settings.ledger_address) as ledger:
        made = ledger.version("v1.1")
        card = model_card(card_facts(settings, ledger, "v1.1"))
    assert made.adapter_sha and made.recipe and made.recipe["objective"] == "kto" and made.labelled == 401
    sources = sources_told(loop, made)
    assert sources["correction"] == 1 and sources["api"] > 20 and sources["thumb"] > 300
    assert f"corrected answers: 1, thumbs: {sources['thumb']}" in card

    traced = dpo(settings, "trace", said["liked"])
    assert "thumb up" in traced and "a labelled answer" in traced and "(labelled), trained v1.1" in traced
    assert "trained v1.1" in dpo(settings, "trace", said["mended"]), "a correction is a pair"

    hers = [WHO, pseudonym_of(WHO, signing_key(settings)), LIKED, MENDED, COMPARED, CORRECTION, COMMENT, REASON]
    before = {trace.path for trace in traces(settings.data_dir, hers)}
    [dataset] = (settings.artifacts_dir / "datasets").iterdir()
    assert {settings.prefs_log, settings.warehouse_path, settings.feedback_table, settings.correction_table} < before
    assert any(path.is_relative_to(dataset) for path in before)
    told = dpo(settings, "forget", WHO)
    assert "Trained on these votes, and unchanged by this: v1.1." in told
    assert [str(trace.path) for trace in traces(settings.data_dir, hers)] == []
    assert not dataset.exists() and len(settings.prefs_log.read_bytes().splitlines()) == 30, "others' votes stay"


def sources_told(loop: Loop, made: VersionRecord) -> dict[str, int]:
    """Of what its dataset is made: manifest, Dagster and MLflow say the same."""
    from mlflow import MlflowClient

    [folder] = (loop.settings.artifacts_dir / "datasets").iterdir()
    told: dict[str, int] = artifacts.read_manifest(folder)["sources"]
    event = loop.instance.get_latest_materialization_event(dg.AssetKey("dpo_dataset"))
    assert event and event.asset_materialization
    shown = str(event.asset_materialization.metadata["by_source"].value)
    assert all(f"| {source} | {count} |" in shown for source, count in told.items())
    run = MlflowClient(loop.settings.mlflow_address).get_run(str(made.mlflow_run))
    assert json.loads(run.data.tags["sources"]) == told
    return told


def say_all(settings: Settings) -> dict[str, str]:
    """In a product that knows our server alone: a thumb, a correction, a comment, and a vote with its reason; returns
    the ids of the answers.
    """
    import openai

    with model_server() as models, serving(settings.data_dir, **answered_by(models)) as server:
        with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none") as client:

            def ask(question: str) -> str:
                messages: Any = [{"role": "user", "content": question}]
                answer = client.chat.completions.create(model="chat", user=WHO, messages=messages)
                assert answer.choices[0].message.content
                return answer.id

            ids = {"liked": ask(LIKED), "mended": ask(MENDED)}
        post(server, "/v1/feedback", request_id=ids["liked"], thumb="up")
        post(server, "/v1/feedback", request_id=ids["liked"], comment=COMMENT)
        post(server, "/v1/feedback", request_id=ids["mended"], correction=CORRECTION)
        shown = post(server, "/v1/comparisons", prompt=COMPARED, annotator=WHO)
        vote = f"/v1/comparisons/{shown['comparison_id']}/vote"
        post(server, vote, token=shown["token"], vote="left", annotator=WHO, reason=REASON)
        served = eventually(lambda: requests(settings), lambda found: set(ids.values()) <= found)
    assert set(ids.values()) <= served
    return ids


def requests(settings: Settings) -> set[str]:
    found = read_records(settings.serving_log_dir, "2026-01-01T00:00:00Z")
    return {each.request_id for each in found if isinstance(each, RequestRecord)}


def post(server: Server, path: str, **body: Any) -> dict[str, Any]:
    answer = server.client.post(path, json=body)
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    return found


def others(settings: Settings, votes: int, thumbs: int) -> None:
    """What a team said besides, as serving writes it."""
    now = utc_now()
    AppendLog(settings.prefs_log).append_all([encode_preference(preference(number)) for number in range(votes)])
    said = [
        FeedbackRecord(
            event_id=f"thumb-{number}", recorded_at=now, request_id=f"chatcmpl-{number}",
            user=f"person-{number % 11}", version="v1.0", signal="thumb", value="up" if number % 3 else "down",
            prompt=f"How far is it to the moon, the {number}th time?", answer=LONG if number % 3 else SHORT,
        )
        for number in range(thumbs)
    ]  # fmt: skip
    AppendLog(settings.serving_log_dir / f"{now[:10]}.jsonl").append_all([msgspec.json.encode(each) for each in said])


def dpo(settings: Settings, *command: str) -> str:
    """The command as a person types it, from any folder."""
    environment = os.environ | {"COLUMNS": "200"}
    done = subprocess.run(
        [sys.executable, "-m", "dpo_pipeline.cli", *command],
        capture_output=True, text=True, check=False, timeout=120, cwd=Path(settings.data_dir).parent, env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
