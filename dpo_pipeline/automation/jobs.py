"""Jobs that a person can launch too: those of assets, and those that tell people something or tidy up."""

from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg

from dpo_pipeline.assets.augmentation import synthetic_pairs
from dpo_pipeline.assets.collection import feedback, preferences, requests
from dpo_pipeline.assets.curation import labelled_answers, validated_pairs
from dpo_pipeline.assets.deployment import model_version, rollout_decision
from dpo_pipeline.assets.evaluation import eval_report, leaderboard
from dpo_pipeline.assets.monitoring import improvement_trajectory, monitoring_report
from dpo_pipeline.assets.partitions import VERSIONS
from dpo_pipeline.assets.training import base_model, dpo_dataset, sft_adapter, trained_adapter
from dpo_pipeline.automation.old_runs import delete_old_runs
from dpo_pipeline.loop.attempts import conclude
from dpo_pipeline.loop.notify import Notification, error_alert, notify, reminder
from dpo_pipeline.loop.reconcile_registry import reconcile_registry
from dpo_pipeline.resources import LoopResource

OFTEN = ("ingest_and_validate", "decide_rollout", "follow_registry", "alert_people", "remind_people", "tidy_up")
"""Jobs whose runs come by the thousand, and tell nothing after some days."""
KIND, FREQUENT = "dpo/kind", "dpo/frequent"
"""Tags of every run of a job, by which Dagster's page of runs is filtered: one value each, as the guide lists them."""
FOLLOWS = {"follows": "its inputs"}
"""Tag of the runs in which an asset follows what it is made from: as many, and as soon forgotten."""


def tags_of(kind: str, job: str = "") -> dict[str, str]:
    """Tags of the runs of a job; those without one follow inputs."""
    return {KIND: kind, FREQUENT: "yes" if not job or job in OFTEN else "no"}


build_baseline = dg.define_asset_job(
    "build_baseline",
    dg.AssetSelection.assets(base_model, sft_adapter, model_version),
    description="Build the base model and v1.0, the first champion.",
    tags=tags_of("training", "build_baseline"),
)
ingest_and_validate = dg.define_asset_job(
    "ingest_and_validate",
    dg.AssetSelection.assets(preferences, validated_pairs),
    description="Read new votes and validate each.",
    tags=tags_of("ingest", "ingest_and_validate"),
)
train_version = dg.define_asset_job(
    "train_version",
    dg.AssetSelection.assets(dpo_dataset, trained_adapter, eval_report, model_version, rollout_decision),
    description="Train, evaluate and register one version (pick it as the partition), and put it into staging.",
    tags=tags_of("training", "train_version"),
)
register_version = dg.define_asset_job(
    "register_version",
    dg.AssetSelection.assets(model_version),
    description="Register an accepted version in MLflow, or again after somebody deleted it there.",
    tags=tags_of("registry", "register_version"),
)
decide_rollout = dg.define_asset_job(
    "decide_rollout",
    dg.AssetSelection.assets(rollout_decision),
    description="Promote, hold or roll back the version that is being rolled out.",
    # One that hangs would keep all later looks from being made.
    tags=tags_of("rollout", "decide_rollout") | {"dagster/max_runtime": "300"},
)
write_report = dg.define_asset_job(
    "write_report",
    dg.AssetSelection.assets(
        requests, feedback, labelled_answers, leaderboard, monitoring_report, improvement_trajectory
    ),
    description="Report on the week: KPIs, leaderboard, improvement trajectory, next actions.",
    tags=tags_of("report", "write_report"),
)


make_synthetic = dg.define_asset_job(
    "make_synthetic_pairs",
    dg.AssetSelection.assets(synthetic_pairs),
    description="Paraphrase questions and keep clear winners, where augmentation is on.",
    tags=tags_of("training", "make_synthetic_pairs"),
)


@dg.op(description="Invite people to vote where this week's collection is behind its target.")
def remind(context: dg.OpExecutionContext, loop: LoopResource) -> str:
    return _send(context, loop, reminder(loop.settings(), datetime.now(UTC)), "the collection is on target")


@dg.op(description="Tell people at once when too many requests of the last hour failed.")
def watch_errors(context: dg.OpExecutionContext, loop: LoopResource) -> str:
    return _send(context, loop, error_alert(loop.settings(), datetime.now(UTC)), "error rate below the alert threshold")


def _send(context: dg.OpExecutionContext, loop: LoopResource, message: Notification | None, otherwise: str) -> str:
    """Send what there is to tell, if anything; returns its text."""
    if message:
        notify(loop.settings().notifications, message.title, message.body)
    context.log.info(message.body if message else otherwise)
    return message.body if message else ""


@dg.op(description="Delete the records of old runs that only checked, ingested or sent messages.")
def forget_old_runs(context: dg.OpExecutionContext, loop: LoopResource) -> int:
    settings = loop.settings()
    before = datetime.now(UTC) - timedelta(days=settings.dagster.keep_runs_days)
    old: list[dict[str, Any]] = [*({"job_name": name} for name in OFTEN), {"tags": FOLLOWS}]
    deleted = delete_old_runs(context.instance, old, before, settings.dagster_home)
    context.log.info(f"deleted {deleted} runs from before {before:%Y-%m-%d}")
    return deleted


@dg.op(description="Carry out what a person promoted or rolled back in MLflow, and set back what else differs.")
def reconcile_with_registry(context: dg.OpExecutionContext, loop: LoopResource) -> list[str]:
    with loop.ledger() as ledger:
        done = reconcile_registry(loop.settings(), ledger, loop.registry())
    for each in done:
        context.log.info(each)
    return done


@dg.op(description="Give up a version after its last attempt, and say what to collect.")
def conclude_attempts(context: dg.OpExecutionContext, loop: LoopResource) -> None:
    with loop.ledger() as ledger:
        conclude(loop.settings(), ledger, ledger.version(context.partition_key))
        context.log.info(f"{context.partition_key} is {ledger.version(context.partition_key).status}")


@dg.job(
    partitions_def=VERSIONS,
    description="Give up a version that its last attempt did not improve.",
    tags=tags_of("training", "give_up_version"),
)
def give_up_version() -> None:
    conclude_attempts()


@dg.job(
    description="Reconcile MLflow's registry with the ledger after somebody changed something there.",
    tags=tags_of("registry", "follow_registry"),
)
def follow_registry() -> None:
    reconcile_with_registry()


@dg.job(
    description="Tell people when too many requests of the last hour failed.",
    tags=tags_of("message", "alert_people"),
)
def alert_people() -> None:
    watch_errors()


@dg.job(
    description="Invite people to a batch testing session where the collection is behind.",
    tags=tags_of("message", "remind_people"),
)
def remind_people() -> None:
    remind()


@dg.job(
    description="Delete the records of old runs, of which a rollout makes a thousand a day.",
    tags=tags_of("upkeep", "tidy_up"),
)
def tidy_up() -> None:
    forget_old_runs()


JOBS: list[Any] = [
    build_baseline,
    ingest_and_validate,
    train_version,
    register_version,
    give_up_version,
    follow_registry,
    decide_rollout,
    write_report,
    remind_people,
    alert_people,
    make_synthetic,
    tidy_up,
]
