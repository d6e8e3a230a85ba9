"""A version's trainings: which one is due and by which recipe, and what happens after the last."""

from dataclasses import dataclass

from dpo_pipeline.core.diagnosis import Diagnosis, Symptoms, diagnose, what_to_collect
from dpo_pipeline.core.lifecycle import RECORDED, RETRIED, UNFINISHED, Status
from dpo_pipeline.core.versions import BASELINE
from dpo_pipeline.loop.notify import tell
from dpo_pipeline.loop.symptoms import symptoms
from dpo_pipeline.settings import Cadence, DpoRecipe, Settings
from dpo_pipeline.stores.ledger import Ledger, VersionRecord


@dataclass(frozen=True)
class Attempt:
    """Of which version, counted from 1, by which recipe and why."""

    name: str
    number: int
    recipe: DpoRecipe
    why: str


def attempt_of(settings: Settings, record: VersionRecord) -> Attempt:
    """The training that the version is due for, whoever starts it.

    After one that came out no better the next, as diagnosed; one that was left half-way is gone on with as it was.
    """
    number, recipe = record.attempt, DpoRecipe(**record.recipe) if record.recipe else _first_recipe(settings, record)
    if record.status in RETRIED:
        diagnosis = diagnosis_of(settings, record)
        return Attempt(record.name, number + 1, diagnosis.recipe, diagnosis.conclusion)
    if record.status == Status.GIVEN_UP:
        return Attempt(
            record.name, number + 1, _first_recipe(settings, record), "it was given up, and is tried once more"
        )
    return Attempt(record.name, number, recipe, f"it is {record.status}")


def next_attempt(settings: Settings, ledger: Ledger) -> Attempt | None:
    """The retry that the newest version is due for; null where it needs none, or had its last."""
    newest = _newest_retried(ledger)
    return attempt_of(settings, newest) if newest and newest.attempt < settings.cadence.max_attempts else None


def spent_attempts(cadence: Cadence, ledger: Ledger) -> VersionRecord | None:
    """The newest version where its last attempt came out no better and it was not given up: a process was killed."""
    newest = _newest_retried(ledger)
    return newest if newest and newest.attempt >= cadence.max_attempts else None


def is_baseline_built(ledger: Ledger) -> bool:
    """Whether v1.0 was registered, even if MLflow or its record is gone since."""
    return any(record.mlflow_version or record.status in RECORDED for record in ledger.versions())


def next_unfinished(ledger: Ledger) -> VersionRecord | None:
    """The newest version where it is on its way to a rollout: with no run at it, another has to go on with it.

    v1.0 is built by its own job, and a registered version waits while another is being rolled out.
    """
    newest = next(iter(ledger.versions()[-1:]), None)
    if newest is None or newest.name == BASELINE or newest.status not in UNFINISHED:
        return None
    waits = newest.status == Status.REGISTERED and ledger.deployment().challenger
    return None if waits else newest


def conclude(settings: Settings, ledger: Ledger, record: VersionRecord) -> Diagnosis | None:
    """After an attempt: why it came out no better, null where it did not.

    After the last one the version is given up, and people are told what to collect.
    """
    if record.status not in RETRIED:
        return None
    seen = symptoms(settings, record)
    diagnosis = _diagnosis(record, seen)
    if record.attempt >= settings.cadence.max_attempts:
        wanted = what_to_collect(diagnosis, seen)
        ledger.give_up(record.name)
        tell(settings, f"{record.name} is given up after {record.attempt} attempts", f"the champion stays: {wanted}")
    return diagnosis


def diagnosis_of(settings: Settings, record: VersionRecord) -> Diagnosis:
    """Why the version is no better, by what ledger, collection and ratings say of it."""
    return _diagnosis(record, symptoms(settings, record))


def _first_recipe(settings: Settings, record: VersionRecord) -> DpoRecipe:
    """That of the settings; by labels where its dataset was built with some."""
    return settings.recipe.model_copy(update={"objective": "kto"}) if record.labelled else settings.recipe


def _newest_retried(ledger: Ledger) -> VersionRecord | None:
    newest = ledger.versions()[-1:]
    return newest[0] if newest and newest[0].status in RETRIED else None


def _diagnosis(record: VersionRecord, seen: Symptoms) -> Diagnosis:
    return diagnose(DpoRecipe(**(record.recipe or {})), seen)
