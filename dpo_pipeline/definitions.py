"""The loop, as Dagster sees it: votes → preferences → valid pairs → dataset → adapter → report → version → rollout."""

import dagster as dg

from dpo_pipeline.quick_imports import quick_imports

with quick_imports():
    from dpo_pipeline.assets import (
        augmentation,
        collection,
        curation,
        deployment,
        evaluation,
        monitoring,
        sources,
        training,
    )
    from dpo_pipeline.automation.jobs import JOBS
    from dpo_pipeline.automation.schedules import SCHEDULES
    from dpo_pipeline.automation.sensors import SENSORS
    from dpo_pipeline.resources import resources

quiet_console = dg.configured(dg.colored_console_logger)({"log_level": "WARNING"})

defs = dg.Definitions(
    assets=[
        sources.vote_log,
        sources.serving_log,
        collection.preferences,
        collection.requests,
        collection.feedback,
        curation.validated_pairs,
        curation.labelled_answers,
        augmentation.synthetic_pairs,
        training.base_model,
        training.sft_adapter,
        training.dpo_dataset,
        training.trained_adapter,
        evaluation.eval_report,
        evaluation.leaderboard,
        deployment.model_version,
        deployment.rollout_decision,
        monitoring.monitoring_report,
        monitoring.improvement_trajectory,
    ],
    asset_checks=[curation.collection_health],
    jobs=JOBS,
    sensors=SENSORS,
    schedules=SCHEDULES,
    resources=resources(),
    # Everything is in the event log; the console of the run's process needs what went wrong only.
    loggers={"console": quiet_console},
    # Training has a process of its own; a process per step would only cost three seconds each.
    executor=dg.in_process_executor,
)
