"""A version as a row: found, read as a record, and moved only as `core.lifecycle` allows."""

import json

import sqlalchemy as sa

from dpo_pipeline.core.lifecycle import TRANSITIONS, Status, follows
from dpo_pipeline.core.versions import VersionRecord
from dpo_pipeline.errors import ForbiddenTransition, RebuildDiffers, UnknownVersion
from dpo_pipeline.stores.ledger.tables import VERSIONS

JSON_FIELDS = ("recipe", "evaluation", "training_metrics", "feedback_mark")


def set_status(connection: sa.Connection, name: str, status: Status, moment: str) -> None:
    """A step of the rollout, in its transaction.

    Raises:
        ForbiddenTransition: the version cannot go from what it is to that.
    """
    check_transition(name, read_version(connection, name).status, status)
    changed = {"status": status, "updated_at": moment}
    connection.execute(sa.update(VERSIONS).where(VERSIONS.c.name == name).values(changed))


def check_transition(name: str, before: str, after: Status) -> None:
    """
    Raises:
        ForbiddenTransition: naming both ends, and what may follow instead.
    """
    if not follows(Status(before), after):
        possible = ", ".join(sorted(TRANSITIONS[Status(before)])) or "nothing"
        raise ForbiddenTransition(
            f"{name} is {before} and cannot become {after}; after {before} comes {possible}. Nothing was changed. "
            "To change what is served, train the next version."
        )


def require_same(record: VersionRecord, what: str, recorded: str | None, rebuilt: str) -> None:
    """
    Raises:
        RebuildDiffers: a part of a registered version, built again, is not what is recorded.
    """
    if recorded != rebuilt:
        raise RebuildDiffers(
            f"{record.name} is {record.status} with {what} {str(recorded)[:12]}; built again by what is set now it "
            f"would be {rebuilt[:12]}. The recorded one stays, nothing was changed. Settings, bank, reviews or votes "
            "differ from those it was made of: set them back to rebuild it, or train the next version with them."
        )


def find_version(connection: sa.Connection, name: str) -> VersionRecord | None:
    row = connection.execute(sa.select(VERSIONS).where(VERSIONS.c.name == name)).mappings().first()
    return as_record(row) if row else None


def read_version(connection: sa.Connection, name: str) -> VersionRecord:
    record = find_version(connection, name)
    if record is None:
        known = ", ".join(connection.scalars(sa.select(VERSIONS.c.name))) or "none yet"
        raise UnknownVersion(f"The ledger knows no version {name!r}; it knows {known}.")
    return record


def as_record(row: sa.RowMapping) -> VersionRecord:
    read = {key: json.loads(row[key]) if row[key] else None for key in JSON_FIELDS}
    return VersionRecord(**(dict(row) | read))
