"""Runs that must not meet, by what they do."""

import dagster as dg

from dpo_pipeline.assets.deployment import model_version
from dpo_pipeline.assets.evaluation import eval_report
from dpo_pipeline.assets.training import dpo_dataset, trained_adapter
from dpo_pipeline.automation.jobs import (
    build_baseline,
    decide_rollout,
    follow_registry,
    give_up_version,
    ingest_and_validate,
    register_version,
    train_version,
)
from dpo_pipeline.automation.launching import Work


def _work(*jobs: str, assets: tuple[dg.AssetsDefinition, ...] = ()) -> Work:
    return Work(frozenset(jobs), frozenset(each.key for each in assets))


BUILDING = _work(build_baseline.name)
INGESTING = _work(ingest_and_validate.name)
TRAINING = _work(
    train_version.name, give_up_version.name, assets=(dpo_dataset, trained_adapter, eval_report, model_version)
)
"""Also where a person materializes its assets one by one."""
DECIDING = _work(decide_rollout.name)
REGISTERING = _work(register_version.name, build_baseline.name, train_version.name)
WRITING_TO_MLFLOW = _work(follow_registry.name, register_version.name, build_baseline.name)
