"""What the clock asks for: the weekly report, alerts, reminders, tidying."""

import dagster as dg

from dpo_pipeline.assets.monitoring import monitoring_report
from dpo_pipeline.automation.jobs import alert_people, remind_people, tidy_up, write_report
from dpo_pipeline.settings import load_settings

# Dagster takes a schedule's time zone where the schedule is defined.
ZONE = load_settings().time_zone
ENDED = {"ops": {monitoring_report.op.name: {"config": {"week": "ended"}}}}

SCHEDULES = [
    dg.ScheduleDefinition(
        name=name,
        job=job,
        run_config=config,
        cron_schedule=cron,
        execution_timezone=ZONE,
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description=description,
    )
    for name, job, config, cron, description in (
        ("weekly_report", write_report, ENDED, "0 6 * * 1", "Every Monday at six: the week that ended."),
        (
            "error_alerts", alert_people, None, "*/15 * * * *",
            "Every quarter of an hour: an alert where too many requests of the last hour failed.",
        ),
        (
            "daily_reminder", remind_people, None, "0 9 * * *",
            "Every day at nine: an invitation where the collection is behind.",
        ),
        ("daily_tidying", tidy_up, None, "0 3 * * *", "Every day at three: delete the records of old runs."),
    )
]  # fmt: skip
