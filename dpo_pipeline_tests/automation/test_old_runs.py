"""Dagster's records of old runs are deleted, with their files; newer ones and those of other jobs stay."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest

from dpo_pipeline.automation.old_runs import delete_old_runs


@dg.op
def work() -> None:
    pass


@dg.job
def often() -> None:
    work()


@dg.job
def seldom() -> None:
    work()


@pytest.mark.slow
def test_finished_runs_of_the_named_jobs_are_deleted_with_their_files(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        old = [often.execute_in_process(instance=instance).run_id for _ in range(3)]
        old += [seldom.execute_in_process(instance=instance, tags={"follows": "its inputs"}).run_id]
        kept = seldom.execute_in_process(instance=instance).run_id
        events = tmp_path / "history" / "runs"
        assert all((events / f"{run_id}.db").exists() for run_id in old)
        which = [{"job_name": "often"}, {"tags": {"follows": "its inputs"}}]
        assert delete_old_runs(instance, which, now - timedelta(days=1), tmp_path) == 0
        assert delete_old_runs(instance, which, now + timedelta(days=1), tmp_path) == 4
        assert [run.run_id for run in instance.get_runs()] == [kept] and instance.all_logs(kept)
        assert [path for run_id in old for path in tmp_path.rglob(f"{run_id}*")] == []
