"""A version that came out no better: what its next attempt changes, and when there is none."""

from dataclasses import dataclass

from dpo_pipeline.core.diagnosis import Diagnosis, Symptoms, diagnose, what_to_collect
from dpo_pipeline.core.lifecycle import RETRIED
from dpo_pipeline.loop.notify import tell
from dpo_pipeline.loop.symptoms import symptoms
from dpo_pipeline.settings import DpoRecipe, Settings
from dpo_pipeline.stores.ledger import Ledger, VersionRecord


@dataclass(frozen=True)
class NextAttempt:
    """Of which version, counted from 1, and why by this recipe."""

    name: str
    attempt: int
    diagnosis: Diagnosis


def next_attempt(settings: Settings, ledger: Ledger) -> NextAttempt | None:
    """What the newest version needs; null where it needs none.

    A last attempt whose end was not concluded, because its process was killed, is concluded here.
    """
    newest = ledger.versions()[-1:]
    if not newest or conclude(settings, ledger, newest[0]).status not in RETRIED:
        return None
    return NextAttempt(newest[0].name, newest[0].attempt + 1, diagnosis_of(settings, newest[0]))


def conclude(settings: Settings, ledger: Ledger, record: VersionRecord) -> VersionRecord:
    """After an attempt: the last one that came out no better is given up, and people are told what to collect."""
    if record.status not in RETRIED or record.attempt < settings.cadence.max_attempts:
        return record
    seen = symptoms(settings, record)  # reads weeks of the serving log
    wanted = what_to_collect(_diagnosis(record, seen), seen)
    given_up = ledger.give_up(record.name)
    tell(settings, f"{record.name} is given up after {record.attempt} attempts", f"the champion stays: {wanted}")
    return given_up


def diagnosis_of(settings: Settings, record: VersionRecord) -> Diagnosis:
    """Why the version is no better, by what ledger, collection and ratings say of it."""
    return _diagnosis(record, symptoms(settings, record))


def _diagnosis(record: VersionRecord, seen: Symptoms) -> Diagnosis:
    return diagnose(DpoRecipe(**(record.recipe or {})), seen)
