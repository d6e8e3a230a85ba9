"""What the clock asks for: the weekly report, alerts, reminders, tidying."""

import dagster as dg

from dpo_pipeline.automation.jobs import alert_people, remind_people, tidy_up, write_report

SCHEDULES = [
    dg.ScheduleDefinition(
        name=name,
        job=job,
        cron_schedule=cron,
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description=description,
    )
    for name, job, cron, description in (
        ("weekly_report", write_report, "0 6 * * 1", "Every Monday at six (UTC): the week that ended."),
        (
            "error_alerts", alert_people, "*/15 * * * *",
            "Every quarter of an hour: an alert where too many requests of the last hour failed.",
        ),
        (
            "daily_reminder", remind_people, "0 9 * * *",
            "Every day at nine (UTC): an invitation where the collection is behind.",
        ),
        ("daily_tidying", tidy_up, "0 3 * * *", "Every day at three (UTC): delete the records of old runs."),
    )
]  # fmt: skip
