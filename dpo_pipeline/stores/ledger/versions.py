"""A version's life in the ledger: one verb for each step, and no step that `core.lifecycle` does not allow.

What was registered is only ever compared: rebuilt by hand, a version must come out as it is recorded, or is refused.
"""

import json
from typing import Any

import sqlalchemy as sa

from dpo_pipeline.core.lifecycle import RECORDED, Status
from dpo_pipeline.core.versions import VersionRecord, iteration
from dpo_pipeline.stores.ledger.connection import LedgerConnection
from dpo_pipeline.stores.ledger.tables import VERSIONS
from dpo_pipeline.stores.ledger.version_rows import (
    JSON_FIELDS,
    as_record,
    check_transition,
    find_version,
    read_version,
    require_same,
)


class VersionLedger(LedgerConnection):
    """The versions; made and raising as `LedgerConnection`."""

    def versions(self) -> list[VersionRecord]:
        """All versions, oldest first."""
        with self._reading() as connection:
            rows = connection.execute(sa.select(VERSIONS)).mappings()
            return sorted((as_record(row) for row in rows), key=lambda record: iteration(record.name))

    def version(self, name: str) -> VersionRecord:
        """
        Raises:
            UnknownVersion: naming those there are.
        """
        with self._reading() as connection:
            return read_version(connection, name)

    def record_dataset(
        self,
        name: str,
        content_hash: str,
        pairs: int,
        pairs_seen: int,
        feedback_mark: dict[str, Any] | None = None,
        feedback_pairs: int = 0,
        labelled: int = 0,
    ) -> VersionRecord:
        """What the version is trained on; a new version begins its life with it.

        Raises:
            RebuildDiffers: the version is registered, with another dataset.
        """
        with self._writing() as connection:
            record = find_version(connection, name)
            if record and record.status in RECORDED:
                require_same(record, "dataset", record.dataset_hash, content_hash)
                return record
            values: dict[str, Any] = {"dataset_hash": content_hash, "pairs": pairs, "pairs_seen": pairs_seen}
            values |= {"feedback_mark": feedback_mark, "feedback_pairs": feedback_pairs, "labelled": labelled}
            return self._write(connection, name, record, values)

    def start_training(
        self, name: str, attempt: int, parent: str | None, base_sha: str, recipe: dict[str, Any]
    ) -> VersionRecord:
        """A training begins: what an earlier attempt came to is no longer said of the version.

        Raises:
            ForbiddenTransition: the version is past training.
        """
        values = {
            "attempt": attempt,
            "parent": parent,
            "base_sha": base_sha,
            "recipe": recipe,
            "adapter_sha": None,
            "adapter_dir": None,
            "mlflow_run": None,
            "win_rate": None,
            "evaluation": None,
            "training_metrics": None,
        }
        return self._step(name, Status.TRAINING, values)

    def record_training(
        self, name: str, adapter_sha: str, adapter_dir: str, metrics: dict[str, float], mlflow_run: str | None
    ) -> VersionRecord:
        """A training gave an adapter.

        Raises:
            RebuildDiffers: the version is registered, with another adapter.
        """
        record = self.version(name)
        if record.status in RECORDED:
            require_same(record, "adapter", record.adapter_sha, adapter_sha)
            return record
        values = {"adapter_sha": adapter_sha, "adapter_dir": adapter_dir, "mlflow_run": mlflow_run}
        return self._step(name, Status.TRAINED, values | {"training_metrics": metrics})

    def record_failure(self, name: str, status: Status) -> VersionRecord:
        """A training gave no adapter, or one that is refused.

        Args:
            status: what the version is after it: `diverged`, `not_improved` or `given_up`.
        """
        return self._step(name, status, {})

    def record_evaluation(
        self, name: str, status: Status, win_rate: float | None, evaluation: dict[str, Any]
    ) -> VersionRecord:
        """What the evaluation found: `improved`, `not_improved` or `inconclusive`.

        Raises:
            ForbiddenTransition: the version is registered; its evaluation is the one that it was accepted on.
        """
        return self._step(name, status, {"win_rate": win_rate, "evaluation": evaluation})

    def give_up(self, name: str) -> VersionRecord:
        """No further attempt: the champion stays."""
        return self._step(name, Status.GIVEN_UP, {})

    def register(self, name: str, mlflow_version: str | None) -> VersionRecord:
        """Accept an improved version. One that was registered before keeps its status.

        Args:
            mlflow_version: its number in MLflow.

        Raises:
            ForbiddenTransition: the version was not found improved.
        """
        record = self.version(name)
        if record.status in RECORDED:
            return self.note_mlflow_version(name, mlflow_version)
        return self._step(name, Status.REGISTERED, {"mlflow_version": mlflow_version})

    def note_mlflow_version(self, name: str, number: str | None) -> VersionRecord:
        """Where MLflow has the version; null: it was deleted there. What the version is does not change."""
        with self._writing() as connection:
            record = read_version(connection, name)
            if record.mlflow_version == number:
                return record
            return self._write(connection, name, record, {"mlflow_version": number})

    def forget_pairs(self, name: str, count: int) -> VersionRecord:
        """So many of the valid pairs that the version has seen are gone: people asked to be forgotten."""
        with self._writing() as connection:
            record = read_version(connection, name)
            return self._write(connection, name, record, {"pairs_seen": record.pairs_seen - count})

    def relocate(self, before: str, now: str) -> None:
        """The data folder lies elsewhere: the ledger holds absolute paths of adapters."""
        moved = VERSIONS.c.adapter_dir.startswith(f"{before}/", autoescape=True)
        path = sa.literal(now) + sa.func.substr(VERSIONS.c.adapter_dir, len(before) + 1)
        with self._writing() as connection:
            connection.execute(sa.update(VERSIONS).where(moved).values(adapter_dir=path))

    def forget_feedback(self, name: str, mark: dict[str, Any], pairs: int, labelled: int) -> VersionRecord:
        """Some of the feedback that the version has seen is gone: so much is left, and was read up to there."""
        with self._writing() as connection:
            left = {"feedback_mark": mark, "feedback_pairs": pairs, "labelled": labelled}
            return self._write(connection, name, read_version(connection, name), left)

    def _step(self, name: str, status: Status, values: dict[str, Any]) -> VersionRecord:
        with self._writing() as connection:
            record = find_version(connection, name)
            if record:
                check_transition(record.name, record.status, status)
            return self._write(connection, name, record, values | {"status": status})

    def _write(
        self, connection: sa.Connection, name: str, record: VersionRecord | None, values: dict[str, Any]
    ) -> VersionRecord:
        stored = {
            key: json.dumps(value, ensure_ascii=False) if key in JSON_FIELDS and value is not None else value
            for key, value in values.items()
        }
        stored["updated_at"] = self.clock()
        if record:
            connection.execute(sa.update(VERSIONS).where(VERSIONS.c.name == name).values(stored))
        else:
            iteration(name)  # refuses a name that is no version's
            new = {"attempt": 1, "pairs_seen": 0, "status": Status.TRAINING, "created_at": stored["updated_at"]}
            connection.execute(sa.insert(VERSIONS).values(new | {"name": name} | stored))
        return read_version(connection, name)
