"""Jobs that a person can launch too, and the sensors that launch them. No sensor opens the warehouse or imports torch.

A run key names what made the run due, so that one cause makes one run, whatever restarts.
"""

import hashlib
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg

from dpo_pipeline.assets.augmentation import synthetic_pairs
from dpo_pipeline.assets.collection import preferences, requests
from dpo_pipeline.assets.curation import validated_pairs
from dpo_pipeline.assets.deployment import model_version, rollout_decision
from dpo_pipeline.assets.evaluation import eval_report, leaderboard
from dpo_pipeline.assets.monitoring import improvement_trajectory, monitoring_report
from dpo_pipeline.assets.partitions import VERSIONS
from dpo_pipeline.assets.training import NULL, base_model, dpo_dataset, sft_adapter, trained_adapter
from dpo_pipeline.core.lifecycle import RECORDED, UNFINISHED
from dpo_pipeline.core.versions import BASELINE, next_version
from dpo_pipeline.errors import RegistryUnavailable
from dpo_pipeline.loop.attempts import next_attempt
from dpo_pipeline.loop.cadence import next_training
from dpo_pipeline.loop.notify import error_alert, notify, reminder
from dpo_pipeline.loop.reconcile_registry import reconcile_registry, registry_differences
from dpo_pipeline.old_runs import delete_old_runs
from dpo_pipeline.resources import LoopResource
from dpo_pipeline.settings import DpoRecipe, Settings, load_settings
from dpo_pipeline.stores.curation import read_summary
from dpo_pipeline.stores.log import file_bytes

# Dagster takes a sensor's interval where the sensor is defined.
EVERY_S = load_settings().dagster.sensor_interval_s
# For what happens seldom, or what serving looks at too: a look costs some 0.1 s of a core, all day long.
SELDOM_S = 4 * EVERY_S
AGAIN_S = 600
BY_HAND = "__ASSET_JOB"
OFTEN = ("ingest_and_validate", "decide_rollout", "alert_people", "remind_people", "tidy_up")
"""Jobs whose runs come by the thousand, and tell nothing after some days."""

build_baseline = dg.define_asset_job(
    "build_baseline",
    dg.AssetSelection.assets(base_model, sft_adapter, model_version),
    description="Build the base model and v1.0, the first champion.",
)
ingest_and_validate = dg.define_asset_job(
    "ingest_and_validate",
    dg.AssetSelection.assets(preferences, validated_pairs),
    description="Read new votes and give each its verdict.",
)
train_version = dg.define_asset_job(
    "train_version",
    dg.AssetSelection.assets(dpo_dataset, trained_adapter, eval_report, model_version, rollout_decision),
    description="Train, evaluate and register one version (pick it as the partition), and put it into staging.",
)
register_version = dg.define_asset_job(
    "register_version",
    dg.AssetSelection.assets(model_version),
    description="Register an accepted version in MLflow; again where somebody deleted it there.",
)
decide_rollout = dg.define_asset_job(
    "decide_rollout",
    dg.AssetSelection.assets(rollout_decision),
    description="Promote, hold or roll back the version that is being rolled out.",
    # One that hangs would keep all later looks from being made.
    tags={"dagster/max_runtime": "300"},
)
write_report = dg.define_asset_job(
    "write_report",
    dg.AssetSelection.assets(requests, leaderboard, monitoring_report, improvement_trajectory),
    description="Count the week: KPIs, leaderboard, the way of the versions, what to do next.",
)


make_synthetic = dg.define_asset_job(
    "make_synthetic_pairs",
    dg.AssetSelection.assets(synthetic_pairs),
    description="Paraphrase questions and keep clear winners, where augmentation is on.",
)


@dg.op(description="Invite people to vote where this week's collection is behind its target.")
def remind(context: dg.OpExecutionContext, loop: LoopResource) -> str:
    settings = loop.settings()
    told = reminder(settings)
    if told:
        notify(settings, told.title, told.body)
    context.log.info(told.body if told else "the collection is on target")
    return told.body if told else ""


@dg.op(description="Tell people at once when too many requests of the last hour failed.")
def watch_errors(context: dg.OpExecutionContext, loop: LoopResource) -> str:
    settings = loop.settings()
    told = error_alert(settings, datetime.now(UTC))
    if told:
        notify(settings, told.title, told.body)
    context.log.info(told.body if told else "error rate below the alert threshold")
    return told.body if told else ""


@dg.op(description="Delete the records of old runs that only looked, ingested or told people something.")
def forget_old_runs(context: dg.OpExecutionContext, loop: LoopResource) -> int:
    settings = loop.settings()
    before = datetime.now(UTC) - timedelta(days=settings.dagster.keep_runs_days)
    deleted = delete_old_runs(context.instance, OFTEN, before, settings.dagster_home)
    context.log.info(f"deleted {deleted} runs from before {before:%Y-%m-%d}")
    return deleted


@dg.op(description="Carry out what a person promoted or rolled back in MLflow, and set back what else differs.")
def reconcile_with_registry(context: dg.OpExecutionContext, loop: LoopResource) -> list[str]:
    with loop.ledger() as ledger:
        done = reconcile_registry(loop.settings(), ledger, loop.registry())
    for each in done:
        context.log.info(each)
    return done


@dg.job(description="Bring MLflow's registry and the ledger together after somebody changed something there.")
def follow_registry() -> None:
    reconcile_with_registry()


@dg.job(description="Tell people when too many requests of the last hour failed.")
def alert_people() -> None:
    watch_errors()


@dg.job(description="Invite people to a batch testing session where the collection is behind.")
def remind_people() -> None:
    remind()


@dg.job(description="Delete the records of old runs, of which a rollout makes a thousand a day.")
def tidy_up() -> None:
    forget_old_runs()


JOBS: list[Any] = [
    build_baseline,
    ingest_and_validate,
    train_version,
    register_version,
    follow_registry,
    decide_rollout,
    write_report,
    remind_people,
    alert_people,
    make_synthetic,
    tidy_up,
]
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


@dg.sensor(
    job=build_baseline,
    minimum_interval_seconds=EVERY_S,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="No version yet: build the baseline.",
)
def baseline_missing(context: dg.SensorEvaluationContext, loop: LoopResource) -> dg.SensorResult | dg.SkipReason:
    with loop.ledger() as ledger:
        if any(record.mlflow_version for record in ledger.versions()):
            return dg.SkipReason("v1.0 is registered")
    if running := _unfinished(context.instance, build_baseline.name):
        return dg.SkipReason(f"run {running} is at it")
    key = f"{BASELINE}{_again(context.instance, build_baseline.name)}"
    return _requested(dg.RunRequest(run_key=key, partition_key=BASELINE))


@dg.sensor(
    job=ingest_and_validate,
    minimum_interval_seconds=EVERY_S,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="The preference log grew: ingest and validate.",
)
def new_votes(context: dg.SensorEvaluationContext, loop: LoopResource) -> dg.RunRequest | dg.SkipReason:
    settings = loop.settings()
    size, reviews = file_bytes(settings.prefs_log), file_bytes(settings.reviews_log)
    summary = read_summary(settings.curation_summary)
    if (size, reviews) == (summary.log_offset, summary.reviews_bytes):
        return dg.SkipReason(f"all {size} bytes of the log are judged, all {reviews} bytes of reviews applied")
    if size < summary.log_offset:
        # The run refuses with the whole story; a sensor error would only be repeated every few seconds.
        return dg.RunRequest(run_key=f"replaced-{size}-{summary.log_offset}")
    if running := _unfinished(context.instance, ingest_and_validate.name):
        return dg.SkipReason(f"run {running} is at it")
    again = _again(context.instance, ingest_and_validate.name)
    rebuilt = f"-rebuilt-{summary.rebuilt}" if summary.rebuilt else ""
    return dg.RunRequest(run_key=f"log-{summary.log_offset}-{size}-{reviews}{rebuilt}{again}")


@dg.sensor(
    job=train_version,
    minimum_interval_seconds=EVERY_S,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Enough unused valid preferences: train the next version. One run per crossing.",
)
def threshold_crossed(context: dg.SensorEvaluationContext, loop: LoopResource) -> dg.SensorResult | dg.SkipReason:
    with loop.ledger() as ledger:
        decision, versions = next_training(loop.settings(), ledger, datetime.now(UTC)), ledger.versions()
    if not versions:
        return dg.SkipReason("v1.0 is not built yet")
    if not decision.due:
        return dg.SkipReason(decision.reason)
    if running := _training(context.instance):
        return dg.SkipReason(f"run {running} is at it")
    name = next_version([record.name for record in versions])
    # A run that failed before it recorded the version leaves it due.
    key = f"crossing{decision.unused // decision.threshold}{_again(context.instance, train_version.name)}"
    return _requested(_train(name, 1, {}, decision.reason, key))


@dg.sensor(
    job=train_version,
    minimum_interval_seconds=EVERY_S,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Not improved: change one hyperparameter and train again, until the version is given up.",
)
def not_improved(context: dg.SensorEvaluationContext, loop: LoopResource) -> dg.SensorResult | dg.SkipReason:
    if running := _training(context.instance):
        return dg.SkipReason(f"run {running} is at it")
    settings = loop.settings()
    with loop.ledger() as ledger:
        found = next_attempt(settings, ledger)
    if found is None:
        return dg.SkipReason("the newest version needs no further attempt")
    differences = _differences(settings, found.diagnosis.recipe)
    # A retry that failed before it recorded itself leaves the version as it was.
    key = f"retry{_again(context.instance, train_version.name)}"
    return _requested(_train(found.name, found.attempt, differences, found.diagnosis.conclusion, key))


@dg.sensor(
    job=decide_rollout,
    minimum_interval_seconds=EVERY_S,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="A version is being rolled out: check whether its stage is over or it must be rolled back.",
)
def stage_due(context: dg.SensorEvaluationContext, loop: LoopResource) -> dg.SensorResult | dg.SkipReason:
    policy = loop.settings().rollout
    with loop.ledger() as ledger:
        state = ledger.deployment()
    if state.stage is None:
        return dg.SkipReason("no version is being rolled out")
    name = state.subject
    interval_s = policy.check_every_s if state.challenger else policy.watch_every_s
    if running := _unfinished(context.instance, decide_rollout.name):
        return dg.SkipReason(f"run {running} is at it")
    key = f"{name}-epoch{state.epoch}-{int(time.time() // interval_s)}"
    return _requested(dg.RunRequest(run_key=key, partition_key=name))


@dg.sensor(
    job=train_version,
    minimum_interval_seconds=SELDOM_S,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="A version was left half-way (MLflow was down, a run was lost): go on with it every ten minutes.",
)
def left_half_way(context: dg.SensorEvaluationContext, loop: LoopResource) -> dg.SensorResult | dg.SkipReason:
    settings = loop.settings()
    with loop.ledger() as ledger:
        newest, deployment = ledger.versions()[-1:], ledger.deployment()
    record = newest[0] if newest and newest[0].name != BASELINE else None
    if record is None or record.status not in UNFINISHED or (record.status == "registered" and deployment.challenger):
        return dg.SkipReason("no version was left half-way")
    if running := _training(context.instance):
        return dg.SkipReason(f"run {running} is at it")
    recipe = _differences(settings, DpoRecipe(**(record.recipe or settings.recipe.model_dump())))
    key = f"half-way-again{int(time.time() // AGAIN_S)}"
    return _requested(_train(record.name, record.attempt, recipe, f"left {record.status}", key))


@dg.sensor(
    # By its name: a job of ops that is handed over is copied with a warning about a beta of Dagster.
    job_name=follow_registry.name,
    minimum_interval_seconds=SELDOM_S,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Somebody moved or deleted something in MLflow: follow it, or set it back.",
)
def registry_changed(context: dg.SensorEvaluationContext, loop: LoopResource) -> dg.RunRequest | dg.SkipReason:
    # A run of these is about to write there itself.
    if running := _any_unfinished(context.instance, follow_registry, register_version, build_baseline):
        return dg.SkipReason(f"run {running} is at it")
    with loop.ledger() as ledger:
        try:
            plan = registry_differences(ledger, loop.registry())
        except RegistryUnavailable as error:
            return dg.SkipReason(f"MLflow cannot be read: {error}")
        epoch = ledger.deployment().epoch
    if not plan:
        return dg.SkipReason("MLflow is as the ledger has it")
    what = hashlib.sha256("\n".join(map(repr, plan)).encode()).hexdigest()[:12]
    return dg.RunRequest(run_key=f"epoch{epoch}-{what}-{int(time.time() // AGAIN_S)}")


@dg.sensor(
    job=register_version,
    minimum_interval_seconds=SELDOM_S,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="A registered version is not in MLflow any more: register it again.",
)
def registration_lost(context: dg.SensorEvaluationContext, loop: LoopResource) -> dg.SensorResult | dg.SkipReason:
    with loop.ledger() as ledger:
        lost = [each.name for each in ledger.versions() if each.status in RECORDED and not each.mlflow_version]
    if not lost:
        return dg.SkipReason("every registered version is in MLflow")
    # A version that is registered for the first time is on its way there.
    if running := _any_unfinished(context.instance, register_version, build_baseline, train_version):
        return dg.SkipReason(f"run {running} is at it")
    again = int(time.time() // AGAIN_S)
    return _requested(*(dg.RunRequest(run_key=f"{name}-again{again}", partition_key=name) for name in lost))


SENSORS = [
    baseline_missing,
    new_votes,
    threshold_crossed,
    not_improved,
    left_half_way,
    stage_due,
    registry_changed,
    registration_lost,
]


def _requested(*runs: dg.RunRequest) -> dg.SensorResult:
    """Runs of partitions that may not be there: whoever deletes Dagster's folder deletes them with it."""
    names = sorted({str(run.partition_key) for run in runs})
    return dg.SensorResult(run_requests=list(runs), dynamic_partitions_requests=[VERSIONS.build_add_request(names)])


def _train(name: str, attempt: int, recipe: dict[str, object], cause: str, key: str) -> dg.RunRequest:
    config = {"attempt": attempt, "recipe": recipe}
    return dg.RunRequest(
        run_key=f"{name}-attempt{attempt}-{key}",
        partition_key=name,
        run_config={"ops": {trained_adapter.key.to_user_string(): {"config": config}}},
        tags={"cause": cause[:200]},
    )


def _differences(settings: Settings, recipe: DpoRecipe) -> dict[str, object]:
    """What of a recipe differs from the one in the settings: the launchpad's form, in which null is a word."""
    usual = settings.recipe.model_dump(mode="json")
    wanted = recipe.model_dump(mode="json").items()
    return {name: NULL if value is None else value for name, value in wanted if value != usual[name]}


def _again(instance: dg.DagsterInstance, job_name: str) -> str:
    """A suffix for run keys after a failed run, new every ten minutes: a failed run blocks its key for ever."""
    newest = instance.get_runs(filters=dg.RunsFilter(job_name=job_name), limit=1)
    failed = newest and newest[0].status in (dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED)
    return f"-again{int(time.time() // AGAIN_S)}" if failed else ""


def _training(instance: dg.DagsterInstance) -> str | None:
    """The id of an unfinished run that trains a version, or may: assets that a person materializes run as one job."""
    return _unfinished(instance, train_version.name) or _unfinished(instance, BY_HAND)


def _any_unfinished(instance: dg.DagsterInstance, *jobs: Any) -> str | None:
    return next(filter(None, (_unfinished(instance, job.name) for job in jobs)), None)


def _unfinished(instance: dg.DagsterInstance, job_name: str) -> str | None:
    """The id of a run of this job that is queued or running."""
    statuses = [
        dg.DagsterRunStatus.QUEUED,
        dg.DagsterRunStatus.NOT_STARTED,
        dg.DagsterRunStatus.STARTING,
        dg.DagsterRunStatus.STARTED,
    ]
    runs = instance.get_runs(filters=dg.RunsFilter(job_name=job_name, statuses=statuses), limit=1)
    return runs[0].run_id[:8] if runs else None
