"""What the state of the loop asks for: a sensor looks and asks, and changes nothing; `launching` says when again.

No sensor opens the warehouse or imports torch.
"""

import hashlib
import math
from datetime import UTC, datetime

import dagster as dg

from dpo_pipeline.assets.collection import feedback, requests
from dpo_pipeline.assets.curation import labelled_answers
from dpo_pipeline.assets.evaluation import leaderboard
from dpo_pipeline.assets.partitions import VERSIONS
from dpo_pipeline.assets.sources import serving_log
from dpo_pipeline.automation.first_version import nothing_to_make
from dpo_pipeline.automation.jobs import (
    FOLLOWS,
    build_baseline,
    decide_rollout,
    follow_registry,
    give_up_version,
    ingest_and_validate,
    register_version,
    tags_of,
    train_version,
)
from dpo_pipeline.automation.launching import Cause, launch
from dpo_pipeline.automation.work import BUILDING, DECIDING, INGESTING, REGISTERING, TRAINING, WRITING_TO_MLFLOW
from dpo_pipeline.core.lifecycle import Status
from dpo_pipeline.core.versions import BASELINE, next_version
from dpo_pipeline.errors import RegistryError
from dpo_pipeline.loop.attempts import is_baseline_built, next_attempt, next_unfinished, spent_attempts
from dpo_pipeline.loop.cadence import next_training
from dpo_pipeline.loop.reconcile_registry import lost_registrations, registry_differences
from dpo_pipeline.loop.set_aside import not_set_aside
from dpo_pipeline.resources import LoopResource
from dpo_pipeline.settings import load_settings
from dpo_pipeline.stores.curation import read_summary
from dpo_pipeline.stores.log import file_bytes

# Dagster takes a sensor's interval where the sensor is defined.
EVERY_S = load_settings().dagster.sensor_interval_s
# For all but votes and stages: a look costs some 0.1 s of a core all day long, and nothing else is due within a minute.
SELDOM_S = 4 * EVERY_S
# For recovery: a run or process that was lost, or what somebody moved in MLflow, which serving follows by itself.
RECOVERY_S = 2 * SELDOM_S
ON = dg.DefaultSensorStatus.RUNNING
TOLD = "v1.0's other assets are told to have nothing"
Asked = dg.SensorResult | dg.SkipReason


@dg.sensor(
    job=build_baseline,
    minimum_interval_seconds=RECOVERY_S,
    default_status=ON,
    description="No version yet: build the baseline. Built: note once which assets have nothing to make for v1.0.",
)
def baseline_missing(context: dg.SensorEvaluationContext, loop: LoopResource) -> Asked:
    with loop.ledger() as ledger:
        is_built = is_baseline_built(ledger)
    if is_built:
        is_told = context.cursor == TOLD or not context.instance.has_dynamic_partition(str(VERSIONS.name), BASELINE)
        events, cursor = ([], context.cursor) if is_told else (nothing_to_make(), TOLD)
        return dg.SensorResult(skip_reason="v1.0 is built", asset_events=events, cursor=cursor)
    return launch(context.instance, Cause("no-baseline", partition=BASELINE), BUILDING)


@dg.sensor(
    job=ingest_and_validate,
    minimum_interval_seconds=EVERY_S,
    default_status=ON,
    description="The preference log or the reviews grew, or a version was rolled back for harm: ingest and validate.",
)
def new_votes(context: dg.SensorEvaluationContext, loop: LoopResource) -> Asked:
    settings = loop.settings()
    size, reviews = file_bytes(settings.prefs_log), file_bytes(settings.reviews_log)
    summary = read_summary(settings.curation_summary)
    with loop.ledger() as ledger:
        unsorted = not_set_aside(ledger, summary)
    if unsorted and size >= summary.log_offset:
        why = f"{unsorted[0]} was rolled back for harm: set aside the pairs that this puts in question"
        cause = Cause(f"rolled-back-{'-'.join(unsorted)}-{summary.rebuilt}".rstrip("-"), why)
        asked = launch(context.instance, cause, INGESTING)
        if isinstance(asked, dg.SensorResult):
            return asked
    if (size, reviews) == (summary.log_offset, summary.reviews_bytes):
        return dg.SkipReason(f"all {size} bytes of the log are validated, all {reviews} bytes of reviews applied")
    if size < summary.log_offset:
        # The run refuses with the whole story; a sensor error would only be repeated every few seconds.
        why = "the log is shorter than what was read of it"
        return launch(context.instance, Cause(f"log-replaced-{size}-{summary.log_offset}", why, once=True), INGESTING)
    rebuilt = f"-rebuilt-{summary.rebuilt}" if summary.rebuilt else ""
    key = f"log-{summary.log_offset}-{size}-{reviews}{rebuilt}"
    cause = Cause(key, f"{size - summary.log_offset} bytes of votes are new")
    # Read once, a log of this length has no more to say: its last line may be torn.
    return launch(context.instance, cause, INGESTING, every_s=math.inf)


@dg.sensor(
    job=train_version,
    minimum_interval_seconds=SELDOM_S,
    default_status=ON,
    description="Enough unused valid preferences: train the next version. One run per crossing.",
)
def threshold_crossed(context: dg.SensorEvaluationContext, loop: LoopResource) -> Asked:
    with loop.ledger() as ledger:
        decision, versions = next_training(loop.settings(), ledger, datetime.now(UTC)), ledger.versions()
    if not versions:
        return dg.SkipReason("v1.0 is not built yet")
    if not decision.due:
        return dg.SkipReason(decision.reason)
    name = next_version([record.name for record in versions])
    # A run that failed before it recorded the version leaves it due.
    key = f"{name}-attempt1-crossing{decision.unused // decision.threshold}"
    return launch(context.instance, Cause(key, decision.reason, name), TRAINING)


@dg.sensor(
    job=train_version,
    minimum_interval_seconds=SELDOM_S,
    default_status=ON,
    description="Not improved: train again with one hyperparameter changed, until the version is given up.",
)
def not_improved(context: dg.SensorEvaluationContext, loop: LoopResource) -> Asked:
    with loop.ledger() as ledger:
        due = next_attempt(loop.settings(), ledger)
    if due is None:
        return dg.SkipReason("the newest version needs no further attempt")
    return launch(context.instance, Cause(f"{due.name}-attempt{due.number}-retry", due.why, due.name), TRAINING)


@dg.sensor(
    # By its name: a job of ops that is handed over is copied with a warning about a beta of Dagster.
    job_name=give_up_version.name,
    minimum_interval_seconds=RECOVERY_S,
    default_status=ON,
    description="The last attempt did not improve, and its process died before recording that: give up.",
)
def attempts_spent(context: dg.SensorEvaluationContext, loop: LoopResource) -> Asked:
    with loop.ledger() as ledger:
        spent = spent_attempts(loop.settings().cadence, ledger)
    if spent is None:
        return dg.SkipReason("no version has had its last attempt")
    why = f"attempt {spent.attempt} was the last"
    return launch(context.instance, Cause(f"{spent.name}-attempt{spent.attempt}-spent", why, spent.name), TRAINING)


@dg.sensor(
    job=decide_rollout,
    minimum_interval_seconds=EVERY_S,
    default_status=ON,
    description="A version is being rolled out: check whether its stage is over or it must be rolled back.",
)
def stage_due(context: dg.SensorEvaluationContext, loop: LoopResource) -> Asked:
    policy = loop.settings().rollout
    with loop.ledger() as ledger:
        state = ledger.deployment()
    if state.stage is None:
        return dg.SkipReason("no version is being rolled out")
    interval_s = policy.check_every_s if state.challenger else policy.watch_every_s
    cause = Cause(f"{state.subject}-epoch{state.epoch}", f"{state.stage}: look again", state.subject)
    # To the nearest look: a run is recorded a moment after the look that asked for it.
    return launch(context.instance, cause, DECIDING, every_s=interval_s - EVERY_S / 2)


@dg.sensor(
    jobs=[train_version, decide_rollout],
    minimum_interval_seconds=RECOVERY_S,
    default_status=ON,
    description="A version is unfinished (MLflow was down, a run was lost): continue it.",
)
def unfinished_version(context: dg.SensorEvaluationContext, loop: LoopResource) -> Asked:
    with loop.ledger() as ledger:
        record = next_unfinished(ledger)
    if record is None:
        return dg.SkipReason("no version is unfinished")
    job = decide_rollout if record.status == Status.REGISTERED else train_version
    cause = Cause(f"{record.name}-attempt{record.attempt}-{record.status}", "unfinished version", record.name, job.name)
    return launch(context.instance, cause, TRAINING)


@dg.sensor(
    job_name=follow_registry.name,
    minimum_interval_seconds=RECOVERY_S,
    default_status=ON,
    description="Somebody moved or deleted something in MLflow: follow it, or set it back.",
)
def registry_changed(context: dg.SensorEvaluationContext, loop: LoopResource) -> Asked:
    with loop.ledger() as ledger:
        try:
            plan = registry_differences(loop.settings(), ledger, loop.registry())
        except RegistryError as error:
            return dg.SkipReason(f"MLflow cannot be read: {error}")
        epoch = ledger.deployment().epoch
    if not plan:
        return dg.SkipReason("MLflow is as the ledger has it")
    what = hashlib.sha256("\n".join(map(repr, plan)).encode()).hexdigest()[:12]
    return launch(context.instance, Cause(f"mlflow-epoch{epoch}-{what}", repr(plan[0])), WRITING_TO_MLFLOW)


@dg.sensor(
    job=register_version,
    minimum_interval_seconds=RECOVERY_S,
    default_status=ON,
    description="A registered version is not in MLflow any more: register it again.",
)
def registration_lost(context: dg.SensorEvaluationContext, loop: LoopResource) -> Asked:
    with loop.ledger() as ledger:
        lost = lost_registrations(ledger)
    if not lost:
        return dg.SkipReason("every registered version is in MLflow")
    # A version that is registered for the first time is on its way there; one that cannot be holds up no other.
    asked = [
        launch(context.instance, Cause(f"{each.name}-not-in-mlflow", partition=each.name), REGISTERING) for each in lost
    ]
    return next((each for each in asked if isinstance(each, dg.SensorResult)), asked[0])


inputs_changed = dg.AutomationConditionSensorDefinition(
    "inputs_changed",
    target=dg.AssetSelection.assets(serving_log.key, requests.key, feedback.key, labelled_answers.key, leaderboard.key),
    default_status=ON,
    minimum_interval_seconds=max(SELDOM_S, 30),
    run_tags={**FOLLOWS, **tags_of("follow")},
    description="Assets that follow what they are made from, at most once between two ticks of their clock.",
)

SENSORS = [
    baseline_missing,
    new_votes,
    threshold_crossed,
    not_improved,
    attempts_spent,
    unfinished_version,
    stage_due,
    registry_changed,
    registration_lost,
    inputs_changed,
]
