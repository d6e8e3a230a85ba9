"""The iteration's timeline on a real ledger and warehouse: when each step was planned, and when it began."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from dpo_pipeline.core.votes import encode_preference
from dpo_pipeline.loop.report import timeline
from dpo_pipeline.settings import RolloutPolicy
from dpo_pipeline.stores.ledger import Ledger
from dpo_pipeline.stores.log import AppendLog
from dpo_pipeline_tests.examples import preference, put_version, settings_in
from dpo_pipeline_tests.ingested import Project


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger(settings_in(tmp_path).ledger_address) as opened:
        yield opened


def at(day: int, hour: int = 0) -> str:
    return f"2026-03-{day:02}T{hour:02}:00:00.000Z"


@pytest.mark.slow
def test_the_hours_of_an_iteration_count_from_its_own_first_vote(tmp_path: Path, ledger: Ledger) -> None:
    project = Project(tmp_path)
    days = [1, 2, 12, 13]
    log = [encode_preference(preference(day, event_id=f"evt-{day}", recorded_at=at(day), source="ui")) for day in days]
    AppendLog(project.log).append_all(log)
    project.tick()
    try:
        steps = timeline(ledger, project.warehouse, RolloutPolicy(), "weekly")
        assert [step.name for step in steps][:4] == ["collect", "train", "evaluate", "staging"]
        assert {step.actual_h for step in steps} == {None}
        put_version(ledger, "v1.0", status="champion", created_at=at(1))
        put_version(ledger, "v1.1", status="champion", created_at=at(8))
        begun = {step.name: step.actual_h for step in timeline(ledger, project.warehouse, RolloutPolicy(), "weekly")}
        assert begun["collect"] == 0 and begun["train"] == 7 * 24 and begun["evaluate"] is None
        put_version(ledger, "v1.2", status="improved", created_at=at(19), evaluation={"begun_at": at(19, 2)})
        begun = {step.name: step.actual_h for step in timeline(ledger, project.warehouse, RolloutPolicy(), "weekly")}
        assert (begun["collect"], begun["train"], begun["evaluate"]) == (0, 7 * 24, 7 * 24 + 2)
    finally:
        project.connection.close()
