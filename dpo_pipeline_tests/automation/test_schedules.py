"""What the clock asks for, evaluated as Dagster would: no run, no file."""

from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import dagster as dg
import pytest

from dpo_pipeline.automation.schedules import SCHEDULES
from dpo_pipeline.definitions import defs

MONDAY = datetime(2026, 11, 30, 6, tzinfo=ZoneInfo("UTC"))
ENDED = {"ops": {"monitoring_report": {"config": {"week": "ended"}}}}
EXPECTED: dict[str, tuple[str, str, dict[str, Any]]] = {
    "weekly_report": ("write_report", "0 6 * * 1", ENDED),
    "error_alerts": ("alert_people", "*/15 * * * *", {}),
    "daily_reminder": ("remind_people", "0 9 * * *", {}),
    "daily_tidying": ("tidy_up", "0 3 * * *", {}),
}


def test_these_are_all() -> None:
    assert {each.name: (each.job_name, each.cron_schedule) for each in SCHEDULES} == {
        name: (job, cron) for name, (job, cron, _) in EXPECTED.items()
    }


@pytest.mark.parametrize("name", EXPECTED)
def test_each_asks_for_one_run_with_a_config_that_its_job_takes(name: str) -> None:
    job, _, config = EXPECTED[name]
    schedule = next(each for each in SCHEDULES if each.name == name)
    with dg.DagsterInstance.ephemeral() as instance:
        context = dg.build_schedule_context(instance=instance, scheduled_execution_time=MONDAY)
        [request] = schedule.evaluate_tick(context).run_requests or ()
    assert request.run_config == config
    assert dg.validate_run_config(defs.resolve_job_def(job), request.run_config)
