"""No click in Dagster changes what was accepted: materialized again, it agrees or is refused, and nothing moves."""

import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from dpo_pipeline.loop.trace import trace_version, trace_vote
from dpo_pipeline.stores.ledger import Ledger
from dpo_pipeline_tests.assets.conftest import REGISTERING, Loop
from dpo_pipeline_tests.assets.test_jobs import add_votes
from dpo_pipeline_tests.examples import put_version

pytestmark = pytest.mark.slow


@pytest.mark.nightly
def test_materialized_again_by_hand_an_accepted_version_stays_as_it_is(
    loop: Loop, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    settings = loop.settings
    loop.build_baseline()
    add_votes(settings, 120)
    assert loop.run("ingest_and_validate").success
    loop.run("train_version", "v1.1", attempt=1, recipe={"epochs": 0.3})
    with Ledger(settings.ledger_address) as ledger:
        if ledger.version("v1.1").status != "rolling_out":  # trained for a moment, it need not be better
            put_version(ledger, "v1.1", status="improved")
            assert loop.run_assets("v1.1", *REGISTERING)
        for stage in ("canary", "small", "half", "full"):
            ledger.promote(stage, ledger.deployment().epoch, ("test",), {}, "test")
    before = all_of_it(loop)
    assert [each["status"] for each in before["versions"]] == ["retired", "champion"]

    monkeypatch.setenv("DPO_SFT__EPOCHS", "0.1")
    monkeypatch.setenv("DPO_RECIPE__BETA", "0.5")
    assert loop.run("build_baseline", "v1.0").success
    again = loop.run("train_version", "v1.1")
    assert not failures(again) - {"eval_report"}, "rebuilt from what is recorded, it comes out the same"
    assert all_of_it(loop) == before, "the recipe of the settings is that of the next version"
    assert "RebuildDiffers" in told(loop.run("train_version", "v1.1", recipe={"beta": 0.7}))
    monkeypatch.setenv("DPO_EVALUATION__EVAL_SHARE", "0.3")
    assert "with dataset" in told(loop.run("train_version", "v1.1"))
    assert all_of_it(loop) == before

    bank = tmp_path / "bank"
    shutil.copytree(settings.bank_dir, bank)
    questions = next(path for path in sorted(bank.glob("*.jsonl")) if "terse" in path.read_text())
    lines = questions.read_text().splitlines()
    questions.write_text("\n".join(lines[1:]) + "\n")
    monkeypatch.setenv("DPO_BANK_DIR", str(bank))
    monkeypatch.setenv("DPO_MODEL__PRETRAIN_STEPS", "2")  # its base is built again, and is compared with nothing
    assert "RebuildDiffers" in told(loop.run("build_baseline", "v1.0"))
    assert all_of_it(loop) == before


def all_of_it(loop: Loop) -> dict[str, Any]:
    """Rows of the ledger, hashes of what is served, where every vote went. Holds are looks and not changes."""
    settings = loop.settings
    with Ledger(settings.ledger_address) as ledger:
        versions = [asdict(each) for each in ledger.versions()]
        decisions = [asdict(each) for each in ledger.decisions() if each.decision != "hold"]
        deployment = asdict(ledger.deployment())
    served = {
        str(path): path.read_bytes()
        for folder in {str(each["adapter_dir"]) for each in versions}
        for path in sorted(Path(folder).rglob("*"))
        if path.is_file() and path.name != "README.md"
    }
    links = {str(path): path.resolve() for path in settings.checkpoints_dir.rglob("*") if path.is_symlink()}
    traces = [asdict(trace_version(settings, each["name"])) for each in versions]
    votes = [asdict(trace_vote(settings, f"evt-{number}").datasets[0]) for number in (0, 1)]
    for trace in traces:
        trace["decisions"] = [each for each in trace["decisions"] if each["decision"] != "hold"]
    return {
        "versions": versions, "decisions": decisions, "deployment": deployment, "served": served, "links": links,
        "traces": json.dumps(traces, default=str), "votes": votes,
    }  # fmt: skip


def failures(result: dg.ExecuteInProcessResult) -> set[str]:
    return {event.step_key for event in result.all_events if event.is_step_failure and event.step_key}


def told(result: dg.ExecuteInProcessResult) -> str:
    return " ".join(str(event.step_failure_data.error) for event in result.all_events if event.is_step_failure)
