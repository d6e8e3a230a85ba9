"""When a cause is asked for, and asked for again: by the runs that it had, whatever the clock's minute is."""

import math
from collections.abc import Iterator
from types import SimpleNamespace

import dagster as dg
import pytest

from dpo_pipeline.automation import launching
from dpo_pipeline.automation.launching import CAUSE, Cause, Work, launch, unfinished

WORK = Work(frozenset({"nothing"}), frozenset({dg.AssetKey("trained")}))
CAUSED = Cause("v1.1-epoch7", "canary: look again")
EVERY_S = 60.0
S = dg.DagsterRunStatus


@dg.job
def nothing() -> None:
    pass


@dg.job
def other() -> None:
    pass


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as opened:
        yield opened


def ran(instance: dg.DagsterInstance, status: S, cause: Cause = CAUSED) -> dg.RunRecord:
    """The run that a cause asked for, as it ended."""
    run = instance.create_run_for_job(nothing, status=S.STARTED, tags={CAUSE: cause.key})
    if status == S.SUCCESS:
        instance.handle_new_event(_ended(run, dg.DagsterEventType.PIPELINE_SUCCESS))
    elif status == S.CANCELED:
        instance.report_run_canceled(run)
    elif status == S.FAILURE:
        instance.report_run_failed(run)
    [record] = instance.get_run_records(dg.RunsFilter(run_ids=[run.run_id]))
    assert record.dagster_run.status == status
    return record


def _ended(run: dg.DagsterRun, kind: dg.DagsterEventType) -> dg.EventLogEntry:
    event = dg.DagsterEvent(event_type_value=kind.value, job_name=run.job_name)
    return dg.EventLogEntry(
        error_info=None, level=20, user_message="", run_id=run.run_id, timestamp=_now(), dagster_event=event
    )


def _now() -> float:
    import time

    return time.time()


def asked(found: dg.SensorResult | dg.SkipReason) -> str | None:
    """The run key, if a run is asked for."""
    if isinstance(found, dg.SkipReason):
        return None
    [request] = found.run_requests or ()
    return request.run_key


def at(monkeypatch: pytest.MonkeyPatch, moment: float) -> None:
    monkeypatch.setattr(launching, "time", SimpleNamespace(time=lambda: moment))


def test_a_new_cause_is_asked_for_at_once_with_its_reason(instance: dg.DagsterInstance) -> None:
    found = launch(instance, Cause("crossing1", "100 valid pairs", "v1.1"), WORK)
    assert isinstance(found, dg.SensorResult)
    [request] = found.run_requests or ()
    assert (request.run_key, request.partition_key) == ("crossing1#1", "v1.1")
    assert request.tags == {"cause": "crossing1", "why": "100 valid pairs"}
    [partitions] = found.dynamic_partitions_requests or ()
    assert list(partitions.partition_keys) == ["v1.1"], "whoever deletes Dagster's folder deletes them with it"


def test_after_a_success_it_is_asked_for_again_when_its_interval_is_over(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = ran(instance, S.SUCCESS)
    begun, last = record.create_timestamp.timestamp(), record.dagster_run.run_id[:8]
    for later, expected in ((EVERY_S - 1, None), (EVERY_S + 1, f"v1.1-epoch7#{last}")):
        at(monkeypatch, begun + later)
        assert asked(launch(instance, CAUSED, WORK, EVERY_S)) == expected
    assert asked(launch(instance, Cause("v1.1-epoch8"), WORK, EVERY_S)) == "v1.1-epoch8#1", "another cause"


def test_a_run_that_somebody_executes_again_does_not_stop_its_cause(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dagster copies all tags of the run: keys that are counted up from them would be used twice."""
    keys = set()
    for _ in range(3):
        record = ran(instance, S.SUCCESS)
        at(monkeypatch, record.create_timestamp.timestamp() + EVERY_S + 1)
        keys.add(asked(launch(instance, CAUSED, WORK, EVERY_S)))
    assert len(keys) == 3 and None not in keys


@pytest.mark.parametrize("status", [S.FAILURE, S.CANCELED])
@pytest.mark.parametrize(("every_s", "again_s"), [(60.0, 60.0), (7200.0, 600.0), (math.inf, 600.0)])
def test_after_a_failure_it_is_asked_for_again_soon_but_not_in_a_hurry(
    status: S, every_s: float, again_s: float, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = ran(instance, status)
    assert record.end_time
    at(monkeypatch, record.end_time + again_s - 1)
    refused = launch(instance, CAUSED, WORK, every_s)
    assert isinstance(refused, dg.SkipReason) and f"ended with {status.value}; the next is due in 1 s" in str(refused)
    at(monkeypatch, record.end_time + again_s + 1)
    assert asked(launch(instance, CAUSED, WORK, every_s)) == f"v1.1-epoch7#{record.dagster_run.run_id[:8]}"


@pytest.mark.parametrize(("status", "once", "again"), [(S.SUCCESS, False, False), (S.FAILURE, True, False)])
def test_what_one_run_tells_is_not_asked_for_again(
    status: S, once: bool, again: bool, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    cause = Cause("log-0-100", once=once)
    record = ran(instance, status, cause)
    at(monkeypatch, record.create_timestamp.timestamp() + 1e6)
    assert (asked(launch(instance, cause, WORK, math.inf)) is not None) == again


def test_a_run_of_the_cause_that_is_under_way_is_waited_for(instance: dg.DagsterInstance) -> None:
    run = instance.create_run_for_job(other, status=S.STARTED, tags={CAUSE: CAUSED.key})
    found = launch(instance, CAUSED, WORK)
    assert isinstance(found, dg.SkipReason) and run.run_id[:8] in str(found)


def test_nothing_is_asked_for_while_such_work_is_under_way(instance: dg.DagsterInstance) -> None:
    instance.create_run_for_job(other, status=S.STARTED)
    assert unfinished(instance, WORK) is None and asked(launch(instance, CAUSED, WORK))
    run = instance.create_run_for_job(nothing, status=S.STARTING)
    found = launch(instance, CAUSED, WORK)
    assert isinstance(found, dg.SkipReason) and run.run_id[:8] in str(found)


def test_a_person_who_materializes_an_asset_is_at_the_same_work(instance: dg.DagsterInstance) -> None:
    @dg.asset
    def trained() -> None: ...

    @dg.asset
    def counted() -> None: ...

    job = dg.Definitions(assets=[trained, counted]).resolve_implicit_global_asset_job_def()
    for name, expected in (("counted", False), ("trained", True)):
        key = frozenset({dg.AssetKey(name)})
        instance.create_run_for_job(job, status=S.STARTED, asset_selection=key)
        assert (unfinished(instance, WORK) is not None) == expected
