"""A data folder that an earlier version of this program wrote opens by itself, and the loop goes on with it.

`data_folders/6172be2.zip` was written by the program at that commit, with its own stores: votes with two bad lines, a
review, a warehouse, a dataset, three adapters, a ledger in mid-rollout, a serving log, open comparisons.
"""

import zipfile
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pytest

from dpo_pipeline.core.serving_records import FeedbackRecord
from dpo_pipeline.core.votes import encode_preference
from dpo_pipeline.loop.curate import curate, rebuild_warehouse
from dpo_pipeline.loop.forget import forget
from dpo_pipeline.loop.ingest import ingest
from dpo_pipeline.loop.roll_out import decide_now, plan_of
from dpo_pipeline.loop.trace import trace_version, trace_vote
from dpo_pipeline.request_errors import InvalidRequest
from dpo_pipeline.settings import Settings
from dpo_pipeline.status import loop_status
from dpo_pipeline.stores import artifacts
from dpo_pipeline.stores.ledger import Ledger
from dpo_pipeline.stores.log import AppendLog
from dpo_pipeline.stores.serving_log import read_records
from dpo_pipeline.stores.serving_state import ServingState
from dpo_pipeline.stores.warehouse import Warehouse, prepare
from dpo_pipeline_tests.examples import GivenVotes, preference, settings_in

FOLDERS = Path(__file__).with_name("data_folders")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    with zipfile.ZipFile(FOLDERS / "6172be2.zip") as written:
        written.extractall(tmp_path)
    return settings_in(tmp_path)


def ingest_and_validate(settings: Settings) -> None:
    with duckdb.connect(str(settings.warehouse_path)) as connection:
        prepare(connection)
        store = Warehouse(connection, settings.prefs_log)
        ingest(store, settings.quarantine_log, settings.collection.max_line_bytes, settings.quality)
        curate(settings, store)


def test_versions_deployment_and_decisions_are_as_they_were(settings: Settings) -> None:
    with Ledger(settings.ledger_address) as ledger:
        statuses = {record.name: record.status for record in ledger.versions()}
        assert statuses == {
            "v1.0": "retired", "v1.1": "champion", "v1.2": "rolling_out", "v1.3": "not_improved",
        }  # fmt: skip
        state, plan = ledger.deployment(), plan_of(ledger.deployment(), settings.rollout)
        assert (state.champion, state.challenger, state.stage, state.previous) == ("v1.1", "v1.2", "canary", "v1.0")
        assert plan.policy == settings.rollout and plan.unit == "person", "from before plans were kept"
        newest = ledger.decisions()[-1]
        assert (newest.decision, newest.evidence) == ("hold", {"requests": 7})
        assert ledger.version("v1.1").evaluation == {
            "verdict": "improved",
            "overall": {"rate": 0.71, "low": 0.6, "high": 0.8},
        }


def test_its_rollout_is_decided_and_its_versions_go_on(settings: Settings) -> None:
    with Ledger(settings.ledger_address) as ledger:
        outcome = decide_now(settings, ledger, GivenVotes(), "v1.2", "test", datetime.now(UTC))
        assert outcome.decision in ("hold", "promote", "rollback") and outcome.reasons
        ledger.start_training("v1.3", 3, "v1.1", "b" * 64, settings.recipe.model_dump(mode="json"))
        assert ledger.version("v1.3").status == "training"
    assert loop_status(settings)["champion"] == "v1.1"


def test_its_votes_are_gone_on_with(settings: Settings) -> None:
    before = loop_status(settings)["preferences"]
    assert (before["recorded"], before["quarantined"]) == (17, 2)
    with duckdb.connect(str(settings.warehouse_path)) as connection:
        prepare(connection)
        tallies = Warehouse(connection, settings.prefs_log).tallies()
        assert (tallies["recorded"], tallies["valid"]) == (17, before["valid"] + 1), "one of them was taken out"
        assert connection.execute("select count(*) from validations").fetchone() == (17,)
    # Unpacked, the log is another file than the one that was read: a restored folder is read again from its beginning.
    rebuild_warehouse(settings, "2026-11-27T00:00:00.000Z")
    AppendLog(settings.prefs_log).append(encode_preference(preference(500, prompt="What is a cloud made of?")))
    ingest_and_validate(settings)
    after = loop_status(settings)["preferences"]
    assert (after["recorded"], after["quarantined"]) == (18, 2)
    assert (after["valid"], after["rejected"]) == (before["valid"] + 1, before["rejected"]), "the review holds"


def test_artifacts_log_and_open_comparisons_can_be_read(settings: Settings) -> None:
    for name in ("v1.0", "v1.1", "v1.2"):
        artifacts.verify(settings.artifacts_dir / "adapters" / name)
    [dataset] = (settings.artifacts_dir / "datasets").iterdir()
    artifacts.verify(dataset)
    records = list(read_records(settings.serving_log_dir, "2026-01-01"))
    assert len(records) == 8 and {type(each).__name__ for each in records} == {
        "RequestRecord",
        "FeedbackRecord",
    }
    told = {(each.signal, each.value) for each in records if isinstance(each, FeedbackRecord)}
    assert told == {("rating", 4), ("correction", "A word for what is done.")}
    with closing(ServingState(settings.serving_state)) as state:
        found = state.comparison("cmp-open")
        assert found and found.response_b == "Leaves in hot water." and state.nicknames() == {"person-0": "Ada"}


def test_it_can_be_traced_and_a_person_forgotten(settings: Settings) -> None:
    assert trace_version(settings, "v1.2").ancestors == ("v1.1", "v1.0")
    assert trace_vote(settings, "evt-0").event.annotator == "person-0"
    found = forget(settings, "person-0")
    assert found.votes == 3 and found.requests == 3 and found.versions == ["v1.1", "v1.2"]
    with closing(ServingState(settings.serving_state)) as state:
        assert state.request("chatcmpl-0") is None and state.nicknames() == {}
        assert state.comparison("cmp-open"), "another person's"
    with pytest.raises(InvalidRequest, match="nobody"):
        forget(settings, " ")
