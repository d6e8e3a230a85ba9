"""The ledger's verbs: each step of a version's life, and none that the table of transitions does not have."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from dpo_pipeline.core.lifecycle import TRANSITIONS, Status
from dpo_pipeline.core.rollout import Condition
from dpo_pipeline.errors import ForbiddenTransition, LedgerTooNew, RebuildDiffers, UnknownVersion
from dpo_pipeline.stores.ledger import Ledger, VersionRecord
from dpo_pipeline_tests.examples import put_version, settings_in

S = Status


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger(settings_in(tmp_path).ledger_address) as opened:
        yield opened


def execute(ledger: Ledger, statement: str) -> None:
    engine = sa.create_engine(ledger.url)
    with engine.begin() as connection:
        connection.execute(sa.text(statement))
    engine.dispose()


def accepted(ledger: Ledger, name: str) -> VersionRecord:
    ledger.record_dataset(name, "d" * 64, pairs=80, pairs_seen=100)
    ledger.start_training(name, 1, None, "b" * 64, {"beta": 0.1})
    ledger.record_training(name, "a" * 64, "there", {"loss": 0.5}, "run")
    ledger.record_evaluation(name, S.IMPROVED, 0.7, {"verdict": "improved"})
    return ledger.register(name, "1")


def test_a_version_from_its_dataset_to_the_registry(ledger: Ledger) -> None:
    first = ledger.record_dataset("v1.1", "d" * 64, pairs=80, pairs_seen=100)
    assert (first.status, first.attempt, first.pairs_seen) == (S.TRAINING, 1, 100)
    record = accepted(ledger, "v1.1")
    assert (record.status, record.mlflow_version, record.win_rate) == (S.REGISTERED, "1", 0.7)
    assert record.recipe == {"beta": 0.1} and record.training_metrics == {"loss": 0.5}
    assert ledger.version("v1.1") == record == ledger.versions()[0]


def test_another_attempt_forgets_what_the_one_before_came_to(ledger: Ledger) -> None:
    accepted_before = ledger.start_training("v1.1", 1, "v1.0", "b", {"beta": 0.1})
    ledger.record_training("v1.1", "a" * 64, "there", {"loss": 0.5}, "run")
    ledger.record_evaluation("v1.1", S.NOT_IMPROVED, 0.4, {"verdict": "not_improved"})
    again = ledger.start_training("v1.1", 2, "v1.0", "b", {"beta": 0.3})
    assert (again.attempt, again.win_rate, again.evaluation, again.training_metrics) == (2, None, None, None)
    assert again.created_at == accepted_before.created_at
    assert (again.adapter_sha, again.adapter_dir, again.mlflow_run) == (None, None, None)


def test_a_champion_that_an_earlier_program_left_as_registered_is_settled(ledger: Ledger) -> None:
    accepted(ledger, "v1.0")
    ledger.install_champion("v1.0", "test")
    put_version(ledger, "v1.0", status="registered")
    execute(ledger, "delete from ledger_schema")
    with Ledger(ledger.url) as opened:
        assert opened.version("v1.0").status == S.CHAMPION


def test_decisions_of_an_earlier_program_read_as_ours(ledger: Ledger) -> None:
    """It called a manual promotion an order, and had other names for the two texts of a rule."""
    accepted(ledger, "v1.0")
    state = ledger.install_champion("v1.0", "test")
    rule = {"name": "error rate", "literal": True, "said": "6%, 5% allowed", "evidence": None, "shown": "3% to 9%"}
    held: dict[str, Any] = {"requests": 40, "conditions": [rule]}
    ledger.record_hold(state.epoch, ("not yet",), held, "loop")
    execute(ledger, "update decisions set decision = 'order' where decision = 'promote'")
    execute(ledger, "update ledger_schema set version = 4")
    with Ledger(ledger.url) as opened:
        first, hold = opened.decisions()
    assert first.decision == "manual promotion"
    [kept] = hold.evidence["conditions"]
    assert Condition(**kept) == Condition("error rate", True, "6%, 5% allowed", None, "3% to 9%")
    assert hold.evidence["requests"] == 40


def test_a_ledger_of_a_later_program_is_left_as_it_is(ledger: Ledger) -> None:
    execute(ledger, "update ledger_schema set version = 99")
    with pytest.raises(LedgerTooNew, match="schema 99, this program knows up to"):
        Ledger(ledger.url)


def test_many_programs_may_open_a_new_ledger_at_once(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'new.db'}"
    with ThreadPoolExecutor(8) as pool:
        for opened in pool.map(lambda _: Ledger(url), range(16)):
            assert opened.versions() == []
            opened.close()


STEPS: dict[Status, Callable[[Ledger], object]] = {
    S.TRAINING: lambda ledger: ledger.start_training("v1.1", 2, "v1.0", "b", {}),
    S.TRAINED: lambda ledger: ledger.record_training("v1.1", "f" * 64, "elsewhere", {}, "other run"),
    S.DIVERGED: lambda ledger: ledger.record_failure("v1.1", S.DIVERGED),
    S.IMPROVED: lambda ledger: ledger.record_evaluation("v1.1", S.IMPROVED, 0.9, {}),
    S.INCONCLUSIVE: lambda ledger: ledger.record_evaluation("v1.1", S.INCONCLUSIVE, 0.5, {}),
    S.NOT_IMPROVED: lambda ledger: ledger.record_evaluation("v1.1", S.NOT_IMPROVED, 0.1, {}),
    S.GIVEN_UP: lambda ledger: ledger.give_up("v1.1"),
    S.ROLLING_OUT: lambda ledger: ledger.start_rollout("v1.1", ledger.deployment().epoch, ("test",), "test"),
}


@pytest.mark.parametrize("before", Status)
@pytest.mark.parametrize("after", STEPS)
def test_a_step_is_taken_where_the_table_has_it_and_refused_elsewhere(
    ledger: Ledger, before: Status, after: Status
) -> None:
    put_version(ledger, "v1.0", status="registered")
    ledger.install_champion("v1.0", "test")
    put_version(ledger, "v1.1", status=before, adapter_sha="a" * 64)
    record = ledger.version("v1.1")
    if after in TRANSITIONS[before] or after == before:
        STEPS[after](ledger)
        assert ledger.version("v1.1").status == after
    else:
        with pytest.raises((ForbiddenTransition, RebuildDiffers)) as refused:
            STEPS[after](ledger)
        assert ledger.version("v1.1") == record and ledger.deployment().challenger is None, "nothing was written"
        assert "v1.1" in str(refused.value) and before in str(refused.value)
        if isinstance(refused.value, ForbiddenTransition):
            assert f"cannot become {after}" in str(refused.value)


def test_what_was_registered_is_only_compared(ledger: Ledger) -> None:
    record = accepted(ledger, "v1.1")
    assert ledger.record_dataset("v1.1", "d" * 64, pairs=80, pairs_seen=999) == record
    assert ledger.record_training("v1.1", "a" * 64, "elsewhere", {}, None) == record
    assert ledger.register("v1.1", "1") == record
    with pytest.raises(RebuildDiffers, match=r"v1.1 is registered with dataset dddddddddddd; .* would be eeeeeeeeeeee"):
        ledger.record_dataset("v1.1", "e" * 64, pairs=1, pairs_seen=1)
    with pytest.raises(RebuildDiffers, match="with adapter aaaaaaaaaaaa"):
        ledger.record_training("v1.1", "e" * 64, "elsewhere", {}, None)
    assert ledger.version("v1.1") == record


def test_a_version_deleted_in_mlflow_stays_what_it_is(ledger: Ledger) -> None:
    record = accepted(ledger, "v1.1")
    assert ledger.note_mlflow_version("v1.1", None).status == record.status
    assert ledger.register("v1.1", "7").mlflow_version == "7"


def test_an_unknown_version_is_named_beside_the_known_ones(ledger: Ledger) -> None:
    accepted(ledger, "v1.1")
    with pytest.raises(UnknownVersion, match=r"no version 'v1.2'; it knows v1.1"):
        ledger.register("v1.2", "1")


def test_the_history_is_read_page_by_page(ledger: Ledger) -> None:
    accepted(ledger, "v1.0")
    ledger.install_champion("v1.0", "test")
    for number in range(6):
        ledger.record_refusal("v1.0", f"reason {number}", "test")
    every = ledger.decisions()
    assert [each.reasons[0] for each in every] == ["the first version", *(f"reason {n}" for n in range(6))]
    newest = ledger.decisions(newest=3)
    assert newest == every[-3:] and ledger.decisions(before=newest[0].id, newest=3) == every[1:4]
    assert ledger.decisions(before=every[0].id) == [] and ledger.decisions("v1.0", newest=1) == every[-1:]
