"""Versions, rollout state and decisions, in one small transactional database (SQLite, or Postgres by URL).

The truth about what is served. MLflow aliases and DuckDB tables are projections of it. Every change
of the rollout carries the epoch it was decided on: a writer who looked earlier is refused.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import make_url

from dpo_pipeline.core.cadence import TrainingState
from dpo_pipeline.core.lifecycle import ACCEPTED, CLOSED
from dpo_pipeline.core.rollout import STAGES, next_stage
from dpo_pipeline.core.versions import BASELINE, iteration
from dpo_pipeline.errors import LedgerError, NoRollout, StaleEpoch, UnknownVersion
from dpo_pipeline.stores.ledger_tables import DECISIONS, DEPLOYMENT, VERSIONS, prepare

_JSON_FIELDS = ("recipe", "evaluation", "training_metrics")


@dataclass(frozen=True)
class VersionRecord:
    """A version as the rest of the house sees it."""

    name: str
    attempt: int
    status: str
    parent: str | None
    adapter_sha: str | None
    adapter_dir: str | None
    base_sha: str | None
    dataset_hash: str | None
    pairs: int | None
    pairs_seen: int
    recipe: dict[str, Any] | None
    win_rate: float | None
    evaluation: dict[str, Any] | None
    training_metrics: dict[str, float] | None
    mlflow_run: str | None
    mlflow_version: str | None
    created_at: str
    updated_at: str


@dataclass(frozen=True)
class DeploymentState:
    epoch: int
    champion: str | None
    previous: str | None
    challenger: str | None
    stage: str | None
    stage_since: str | None
    paused: bool = False
    plan: dict[str, Any] | None = None
    """What the newest rollout began with (`core.exposure.RolloutPlan`); null: it began before plans were kept."""

    @property
    def subject(self) -> str | None:
        """The version that decisions are about: the one being rolled out, else the one rolled out last."""
        return self.challenger or self.champion

    @property
    def baseline(self) -> str | None:
        """What the subject is measured against."""
        return self.champion if self.challenger else self.previous


@dataclass(frozen=True)
class DecisionRecord:
    epoch: int
    version: str
    stage: str
    decision: str
    reasons: tuple[str, ...]
    evidence: dict[str, Any]
    actor: str
    decided_at: str


def utc_now() -> str:
    """Now, RFC 3339 in UTC."""
    return utc_text(datetime.now(UTC))


def utc_text(moment: datetime) -> str:
    """RFC 3339 in UTC, as every record has it: such texts compare like their moments."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds")[: -len("+00:00")] + "Z"


class Ledger:
    """The database behind one URL. Cheap to make; holds a small connection pool."""

    def __init__(self, url: str):
        parsed = make_url(url)
        connect_args: dict[str, Any] = {}
        if parsed.get_backend_name() == "sqlite":
            if parsed.database:
                Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
            connect_args = {"timeout": 30}
        self._engine = sa.create_engine(parsed, connect_args=connect_args)
        prepare(self._engine)

    def close(self) -> None:
        self._engine.dispose()

    def __enter__(self) -> "Ledger":
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # Versions

    def versions(self) -> list[VersionRecord]:
        """All versions, oldest first."""
        with self._engine.connect() as connection:
            rows = connection.execute(sa.select(VERSIONS)).mappings()
            return sorted((_version_record(row) for row in rows), key=lambda record: iteration(record.name))

    def version(self, name: str) -> VersionRecord:
        """
        Raises:
            UnknownVersion: naming those there are.
        """
        with self._engine.connect() as connection:
            found = _version(connection, name)
            if found is None:
                known = ", ".join(connection.scalars(sa.select(VERSIONS.c.name))) or "none yet"
                raise UnknownVersion(f"The ledger knows no version {name!r}; it knows {known}.")
            return found

    def record_version(self, name: str, **changes: Any) -> VersionRecord:
        """Create the version or change the given fields of it; mappings are stored as JSON."""
        iteration(name)
        stored = {
            key: json.dumps(value, ensure_ascii=False) if key in _JSON_FIELDS and value is not None else value
            for key, value in changes.items()
        }
        stored["updated_at"] = utc_now()
        with self._engine.begin() as connection:
            changed = connection.execute(sa.update(VERSIONS).where(VERSIONS.c.name == name).values(stored))
            if changed.rowcount == 0:
                new = {"attempt": 1, "pairs_seen": 0, "status": "training", "created_at": stored["updated_at"]}
                connection.execute(sa.insert(VERSIONS).values(new | {"name": name} | stored))
            recorded = _version(connection, name)
        assert recorded is not None
        return recorded

    # Deployment

    def deployment(self) -> DeploymentState:
        with self._engine.connect() as connection:
            return _deployment_state(connection)

    def install_champion(self, name: str, actor: str) -> DeploymentState:
        """Make the first version champion; does nothing where there is one."""
        self.version(name)
        with self._engine.begin() as connection:
            if connection.execute(sa.select(DEPLOYMENT.c.id)).first() is None:
                first = {"id": 1, "epoch": 1, "champion": name, "paused": False}
                connection.execute(sa.insert(DEPLOYMENT).values(first))
                _add_decision(connection, 1, name, "full", "promote", ("the first version",), {}, actor)
                _set_status(connection, name, "champion")
            return _deployment_state(connection)

    def start_rollout(
        self,
        name: str,
        epoch: int,
        reasons: Sequence[str],
        actor: str,
        plan: dict[str, Any] | None = None,
        evidence: dict[str, Any] | None = None,
    ) -> DeploymentState:
        """Put a registered version into staging, by a plan that stays until the rollout is over.

        Raises:
            StaleEpoch: the deployment moved since `epoch` was read.
        """
        kept = json.dumps(plan) if plan else None
        change = {"challenger": name, "stage": STAGES[0], "stage_since": utc_now(), "paused": False, "plan": kept}
        return self._move(
            epoch, change, [(name, "rolling_out")], (name, STAGES[0], "promote", reasons, evidence or {}, actor)
        )

    def promote(
        self, stage: str, epoch: int, reasons: Sequence[str], evidence: dict[str, Any], actor: str
    ) -> DeploymentState:
        """Move the challenger to the next `stage`; at the last one it becomes champion.

        Raises:
            StaleEpoch: the deployment moved since `epoch` was read.
            LedgerError: another stage than the next one: none is left out.
        """
        state = self.current_rollout()
        if stage != next_stage(state.stage or STAGES[0]):
            raise LedgerError(
                f"{state.challenger} is at stage {state.stage}; {next_stage(state.stage or STAGES[0])} comes next, not "
                f"{stage}. Stages are never left out: promote it step by step."
            )
        change: dict[str, Any] = {"stage": stage, "stage_since": utc_now()}
        statuses = []
        if stage == STAGES[-1]:
            change |= {"champion": state.challenger, "previous": state.champion, "challenger": None}
            statuses = [(state.champion, "retired"), (state.challenger, "champion")]
        return self._move(epoch, change, statuses, (state.challenger, stage, "promote", reasons, evidence, actor))

    def roll_back(self, epoch: int, reasons: Sequence[str], evidence: dict[str, Any], actor: str) -> DeploymentState:
        """Roll the challenger back; a champion at stage full gives way to the previous one."""
        state = self.deployment()
        if state.challenger:
            change: dict[str, Any] = {"challenger": None, "stage": None, "stage_since": None, "paused": False}
            statuses: list[tuple[str | None, str]] = [(state.challenger, "rolled_back")]
        elif state.previous and state.stage == STAGES[-1]:
            change = {"champion": state.previous, "previous": None, "stage": None, "stage_since": None}
            statuses = [(state.champion, "rolled_back"), (state.previous, "champion")]
        else:
            raise NoRollout(f"Nothing to roll back: {state.champion} is champion and no version is being rolled out.")
        stage = state.stage or STAGES[-1]
        return self._move(epoch, change, statuses, (state.subject, stage, "rollback", reasons, evidence, actor))

    def order_champion(self, name: str, epoch: int, reasons: Sequence[str], actor: str) -> DeploymentState:
        """A person makes an accepted version champion at once; a rollout that is under way ends.

        An order back to the version before is a way out: what it replaces is nothing to fall back on.

        Raises:
            StaleEpoch: the deployment moved since `epoch` was read.
        """
        state = self.deployment()
        change: dict[str, Any] = {"champion": name, "challenger": None, "paused": False}
        if name == state.previous:
            change |= {"previous": None, "stage": None, "stage_since": None}
        else:
            change |= {"previous": state.champion, "stage": STAGES[-1], "stage_since": utc_now()}
        statuses: list[tuple[str | None, str]] = [(state.champion, "retired"), (name, "champion")]
        if state.challenger and state.challenger != name:
            statuses.append((state.challenger, "retired"))
        return self._move(epoch, change, statuses, (name, STAGES[-1], "order", reasons, {}, actor))

    def mirrored(self) -> dict[str, str]:
        """MLflow's version number by alias, as this project set them last."""
        with self._engine.connect() as connection:
            noted = connection.scalar(sa.select(DEPLOYMENT.c.mirrored))
            return json.loads(noted) if noted else {}

    def note_mirrored(self, aliases: Mapping[str, str]) -> None:
        with self._engine.begin() as connection:
            connection.execute(sa.update(DEPLOYMENT).values(mirrored=json.dumps(dict(aliases))))

    def set_paused(self, paused: bool, epoch: int, reasons: Sequence[str], actor: str) -> DeploymentState:
        """Stop the challenger from being promoted, or let it go on. Harm still rolls it back."""
        state = self.current_rollout()
        decision = "pause" if paused else "resume"
        return self._move(epoch, {"paused": paused}, [], (state.challenger, state.stage, decision, reasons, {}, actor))

    def record_hold(self, epoch: int, reasons: Sequence[str], evidence: dict[str, Any], actor: str) -> None:
        """Note a hold; equal ones in a row are kept once, with the newest evidence."""
        state = self.deployment()
        subject = state.subject
        if state.epoch != epoch or subject is None:
            raise StaleEpoch(_stale(epoch, state.epoch))
        with self._engine.begin() as connection:
            newest = connection.execute(sa.select(DECISIONS).order_by(DECISIONS.c.id.desc()).limit(1)).first()
            if newest is not None and (newest.decision, newest.epoch) == ("hold", epoch):
                again = _what_it_rested_on(reasons, evidence)
                connection.execute(sa.update(DECISIONS).where(DECISIONS.c.id == newest.id).values(again))
            else:
                _add_decision(connection, epoch, subject, state.stage or STAGES[-1], "hold", reasons, evidence, actor)

    def record_refusal(self, name: str, reason: str, actor: str) -> None:
        """Note an order that was not carried out."""
        state = self.deployment()
        with self._engine.begin() as connection:
            _add_decision(connection, state.epoch, name, state.stage or STAGES[-1], "refused", (reason,), {}, actor)

    def decisions(self, version: str | None = None) -> list[DecisionRecord]:
        """Oldest first."""
        query = sa.select(DECISIONS).order_by(DECISIONS.c.id)
        if version:
            query = query.where(DECISIONS.c.version == version)
        with self._engine.connect() as connection:
            return [_decision_record(row) for row in connection.execute(query).mappings()]

    def current_rollout(self) -> DeploymentState:
        """
        Raises:
            NoRollout: no version is being rolled out.
        """
        state = self.deployment()
        if not state.challenger:
            raise NoRollout(f"No version is being rolled out; {state.champion} is champion.")
        return state

    def _move(
        self,
        epoch: int,
        change: dict[str, Any],
        statuses: Sequence[tuple[str | None, str]],
        decision: tuple[Any, ...],
    ) -> DeploymentState:
        """One transaction: compare the epoch, change the row, set statuses, add the decision."""
        with self._engine.begin() as connection:
            moved = connection.execute(
                sa.update(DEPLOYMENT).where(DEPLOYMENT.c.epoch == epoch).values(epoch=epoch + 1, **change)
            )
            if moved.rowcount != 1:
                raise StaleEpoch(_stale(epoch, _deployment_state(connection).epoch))
            for name, status in statuses:
                if name:
                    _set_status(connection, name, status)
            _add_decision(connection, epoch + 1, *decision)
            return _deployment_state(connection)


def _stale(expected: int, found: int) -> str:
    return (
        f"The rollout is at epoch {found}; this decision was made on epoch {expected}. "
        "Somebody else moved it first: look again and decide anew."
    )


def _set_status(connection: sa.Connection, name: str, status: str) -> None:
    connection.execute(sa.update(VERSIONS).where(VERSIONS.c.name == name).values(status=status, updated_at=utc_now()))


def _add_decision(
    connection: sa.Connection,
    epoch: int,
    version: str,
    stage: str,
    decision: str,
    reasons: Sequence[str],
    evidence: dict[str, Any],
    actor: str,
) -> None:
    what = {"epoch": epoch, "version": version, "stage": stage, "decision": decision, "actor": actor}
    connection.execute(sa.insert(DECISIONS).values(what | _what_it_rested_on(reasons, evidence)))


def _what_it_rested_on(reasons: Sequence[str], evidence: dict[str, Any]) -> dict[str, str]:
    return {
        "reasons": json.dumps(list(reasons), ensure_ascii=False),
        "evidence": json.dumps(evidence, ensure_ascii=False),
        "decided_at": utc_now(),
    }


def _decision_record(row: sa.RowMapping) -> DecisionRecord:
    kept = {key: value for key, value in row.items() if key != "id"}
    read = {"reasons": tuple(json.loads(row["reasons"])), "evidence": json.loads(row["evidence"])}
    return DecisionRecord(**(kept | read))


def _version(connection: sa.Connection, name: str) -> VersionRecord | None:
    row = connection.execute(sa.select(VERSIONS).where(VERSIONS.c.name == name)).mappings().first()
    return None if row is None else _version_record(row)


def _version_record(row: sa.RowMapping) -> VersionRecord:
    read = {key: json.loads(row[key]) if row[key] else None for key in _JSON_FIELDS}
    return VersionRecord(**(dict(row) | read))


def _deployment_state(connection: sa.Connection) -> DeploymentState:
    columns = [DEPLOYMENT.c[field.name] for field in fields(DeploymentState)]
    row = connection.execute(sa.select(*columns)).mappings().first()
    if row is None:
        return DeploymentState(0, None, None, None, None, None)
    return DeploymentState(**{**row, "plan": json.loads(row["plan"]) if row["plan"] else None})


def as_json(record: VersionRecord | DeploymentState | DecisionRecord) -> dict[str, Any]:
    return asdict(record)


def training_state(
    versions: Sequence[VersionRecord], deployment: DeploymentState, valid: int, now: datetime
) -> TrainingState:
    """What the cadence decision looks at; `valid` is the number of valid pairs so far."""
    trained = [record for record in versions if record.name != BASELINE]
    accepted = [record for record in trained if record.status in ACCEPTED]
    newest = trained[-1] if trained else None
    return TrainingState(
        unused=valid - max((record.pairs_seen for record in accepted), default=0),
        fresh=valid - max((record.pairs_seen for record in trained), default=0),
        accepted_versions=len(accepted),
        newest_was_given_up=newest is not None and newest.status in CLOSED,
        training_now=newest is not None and newest.status not in (*ACCEPTED, *CLOSED),
        rollout_of=deployment.challenger,
        hours_since_training=(now - datetime.fromisoformat(newest.created_at)).total_seconds() / 3600
        if newest
        else None,
    )
