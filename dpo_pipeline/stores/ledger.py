"""Versions, rollout state and decisions, in one small transactional database (SQLite, or Postgres by URL).

The truth about what is served. MLflow aliases and DuckDB tables are projections of it. Every change
of the rollout carries the epoch it was decided on: a writer who looked earlier is refused.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import make_url
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from dpo_pipeline.core.cadence import TrainingState
from dpo_pipeline.core.rollout import STAGES, next_stage
from dpo_pipeline.core.versions import BASELINE, iteration
from dpo_pipeline.errors import LedgerError, NoRollout, StaleEpoch, UnknownVersion

# A version's life: training → trained (or diverged) → improved | not_improved | inconclusive → registered
# → rolling_out → champion → retired; or given_up when its attempts are used, or rolled_back.
_JSON_FIELDS = ("recipe", "evaluation", "training_metrics")
CLOSED = ("given_up", "rolled_back")
RETRIED = ("not_improved", "inconclusive", "diverged")
ACCEPTED = ("registered", "rolling_out", "champion", "retired")
# Once registered, a version is only ever rebuilt from what is recorded of it.
REBUILT = (*ACCEPTED, "rolled_back")


class Base(DeclarativeBase):
    pass


class Version(Base):
    """One version: what it is made of and what became of it. The newest attempt only."""

    __tablename__ = "versions"

    name: Mapped[str] = mapped_column(sa.String(32), primary_key=True)
    attempt: Mapped[int] = mapped_column(default=1)
    status: Mapped[str] = mapped_column(sa.String(32))
    parent: Mapped[str | None] = mapped_column(sa.String(32))
    adapter_sha: Mapped[str | None] = mapped_column(sa.String(64))
    adapter_dir: Mapped[str | None]
    base_sha: Mapped[str | None] = mapped_column(sa.String(64))
    dataset_hash: Mapped[str | None] = mapped_column(sa.String(64))
    pairs: Mapped[int | None]
    pairs_seen: Mapped[int] = mapped_column(default=0)
    recipe: Mapped[str | None] = mapped_column(sa.Text)
    win_rate: Mapped[float | None]
    evaluation: Mapped[str | None] = mapped_column(sa.Text)
    training_metrics: Mapped[str | None] = mapped_column(sa.Text)
    mlflow_run: Mapped[str | None] = mapped_column(sa.String(64))
    mlflow_version: Mapped[str | None] = mapped_column(sa.String(32))
    created_at: Mapped[str] = mapped_column(sa.String(40))
    updated_at: Mapped[str] = mapped_column(sa.String(40))


class Deployment(Base):
    """One row: who serves, who is being let out, at which stage, and the epoch of that."""

    __tablename__ = "deployment"

    id: Mapped[int] = mapped_column(primary_key=True)
    epoch: Mapped[int] = mapped_column(default=0)
    champion: Mapped[str | None] = mapped_column(sa.String(32))
    previous: Mapped[str | None] = mapped_column(sa.String(32))
    challenger: Mapped[str | None] = mapped_column(sa.String(32))
    stage: Mapped[str | None] = mapped_column(sa.String(32))
    stage_since: Mapped[str | None] = mapped_column(sa.String(40))
    paused: Mapped[bool] = mapped_column(default=False)
    mirrored: Mapped[str | None] = mapped_column(sa.Text)


class DecisionRow(Base):
    """Every decision, with what it rested on. Rows are only ever added."""

    __tablename__ = "decisions"

    id: Mapped[int] = mapped_column(primary_key=True)
    epoch: Mapped[int]
    version: Mapped[str] = mapped_column(sa.String(32))
    stage: Mapped[str] = mapped_column(sa.String(32))
    decision: Mapped[str] = mapped_column(sa.String(32))
    reasons: Mapped[str] = mapped_column(sa.Text)
    evidence: Mapped[str] = mapped_column(sa.Text)
    actor: Mapped[str] = mapped_column(sa.String(64))
    decided_at: Mapped[str] = mapped_column(sa.String(40))


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

    @property
    def subject(self) -> str | None:
        """The version that decisions are about: the one being let out, else the one let out last."""
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
        _create_tables(self._engine)
        _add_missing_columns(self._engine)

    def close(self) -> None:
        self._engine.dispose()

    def __enter__(self) -> "Ledger":
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # Versions

    def versions(self) -> list[VersionRecord]:
        """All versions, oldest first."""
        with Session(self._engine) as session:
            rows = session.scalars(sa.select(Version)).all()
            return sorted((_version_record(row) for row in rows), key=lambda record: iteration(record.name))

    def version(self, name: str) -> VersionRecord:
        """
        Raises:
            UnknownVersion: naming those there are.
        """
        with Session(self._engine) as session:
            row = session.get(Version, name)
            if row is None:
                known = ", ".join(session.scalars(sa.select(Version.name))) or "none yet"
                raise UnknownVersion(f"The ledger knows no version {name!r}; it knows {known}.")
            return _version_record(row)

    def record_version(self, name: str, **fields: Any) -> VersionRecord:
        """Create the version or change the given fields of it; mappings are stored as JSON."""
        iteration(name)
        stored = {
            key: json.dumps(value, ensure_ascii=False) if key in _JSON_FIELDS and value is not None else value
            for key, value in fields.items()
        }
        with Session(self._engine) as session, session.begin():
            row = session.get(Version, name)
            now = utc_now()
            if row is None:
                row = Version(name=name, **{"attempt": 1, "pairs_seen": 0, "status": "training", **stored})
                row.created_at = row.updated_at = now
                session.add(row)
            else:
                for key, value in stored.items():
                    setattr(row, key, value)
                row.updated_at = now
            session.flush()
            return _version_record(row)

    # Deployment

    def deployment(self) -> DeploymentState:
        with Session(self._engine) as session:
            return _deployment_state(session.get(Deployment, 1))

    def install_champion(self, name: str, actor: str) -> DeploymentState:
        """Make the first version champion; does nothing where there is one."""
        self.version(name)
        with Session(self._engine) as session, session.begin():
            row = session.get(Deployment, 1)
            if row is None:
                row = Deployment(id=1, epoch=1, champion=name)
                session.add(row)
                session.add(_decision(1, name, "full", "promote", ("the first version",), {}, actor))
                self._set_status(session, name, "champion")
            session.flush()
            return _deployment_state(row)

    def start_rollout(self, name: str, epoch: int, reasons: Sequence[str], actor: str) -> DeploymentState:
        """Put a registered version into staging.

        Raises:
            StaleEpoch: the deployment moved since `epoch` was read.
        """
        change = {"challenger": name, "stage": STAGES[0], "stage_since": utc_now(), "paused": False}
        return self._move(epoch, change, [(name, "rolling_out")], (name, STAGES[0], "promote", reasons, {}, actor))

    def promote(
        self, stage: str, epoch: int, reasons: Sequence[str], evidence: dict[str, Any], actor: str
    ) -> DeploymentState:
        """Move the challenger to the next `stage`; at the last one it becomes champion.

        Raises:
            StaleEpoch: the deployment moved since `epoch` was read.
            LedgerError: another stage than the next one: none is left out.
        """
        state = self._current_rollout()
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
        """Take the challenger back; a champion at stage full gives way to the previous one."""
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

        Raises:
            StaleEpoch: the deployment moved since `epoch` was read.
        """
        state = self.deployment()
        change: dict[str, Any] = {"champion": name, "previous": state.champion, "challenger": None}
        change |= {"stage": STAGES[-1], "stage_since": utc_now(), "paused": False}
        statuses: list[tuple[str | None, str]] = [(state.champion, "retired"), (name, "champion")]
        if state.challenger and state.challenger != name:
            statuses.append((state.challenger, "retired"))
        return self._move(epoch, change, statuses, (name, STAGES[-1], "order", reasons, {}, actor))

    def mirrored(self) -> dict[str, str]:
        """MLflow's version number by alias, as this project set them last."""
        with Session(self._engine) as session:
            row = session.get(Deployment, 1)
            return json.loads(row.mirrored) if row and row.mirrored else {}

    def note_mirrored(self, aliases: Mapping[str, str]) -> None:
        with Session(self._engine) as session, session.begin():
            session.execute(sa.update(Deployment).where(Deployment.id == 1).values(mirrored=json.dumps(dict(aliases))))

    def set_paused(self, paused: bool, epoch: int, reasons: Sequence[str], actor: str) -> DeploymentState:
        """Stop the challenger from being promoted, or let it go on. Harm still rolls it back."""
        state = self._current_rollout()
        decision = "pause" if paused else "resume"
        return self._move(epoch, {"paused": paused}, [], (state.challenger, state.stage, decision, reasons, {}, actor))

    def record_hold(self, epoch: int, reasons: Sequence[str], evidence: dict[str, Any], actor: str) -> None:
        """Note a hold; equal ones in a row are kept once, with the newest evidence."""
        state = self.deployment()
        subject = state.subject
        if state.epoch != epoch or subject is None:
            raise StaleEpoch(_stale(epoch, state.epoch))
        with Session(self._engine) as session, session.begin():
            newest = session.scalars(sa.select(DecisionRow).order_by(DecisionRow.id.desc()).limit(1)).first()
            row = _decision(epoch, subject, state.stage or STAGES[-1], "hold", reasons, evidence, actor)
            if newest is not None and (newest.decision, newest.epoch) == ("hold", epoch):
                newest.reasons, newest.evidence, newest.decided_at = row.reasons, row.evidence, row.decided_at
            else:
                session.add(row)

    def decisions(self, version: str | None = None) -> list[DecisionRecord]:
        """Oldest first."""
        query = sa.select(DecisionRow).order_by(DecisionRow.id)
        if version:
            query = query.where(DecisionRow.version == version)
        with Session(self._engine) as session:
            return [_decision_record(row) for row in session.scalars(query)]

    def _current_rollout(self) -> DeploymentState:
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
        with Session(self._engine) as session, session.begin():
            moved = session.execute(
                sa.update(Deployment)
                .where(Deployment.id == 1, Deployment.epoch == epoch)
                .values(epoch=epoch + 1, **change)
            )
            if moved.rowcount != 1:  # type: ignore[attr-defined]
                raise StaleEpoch(_stale(epoch, self.deployment().epoch))
            for name, status in statuses:
                if name:
                    self._set_status(session, name, status)
            session.add(_decision(epoch + 1, *decision))
            session.flush()
            return _deployment_state(session.get(Deployment, 1, populate_existing=True))

    @staticmethod
    def _set_status(session: Session, name: str, status: str) -> None:
        session.execute(sa.update(Version).where(Version.name == name).values(status=status, updated_at=utc_now()))


def _create_tables(engine: sa.Engine) -> None:
    """Those that are missing. Several programs may open a new ledger at once; whoever is second finds some there."""
    for _ in Base.metadata.tables:
        try:
            Base.metadata.create_all(engine)
        except (sa.exc.OperationalError, sa.exc.ProgrammingError) as error:
            if "already exists" not in str(error):
                raise
        else:
            return
    Base.metadata.create_all(engine)


def _add_missing_columns(engine: sa.Engine) -> None:
    """A ledger that an earlier version of this program made gets the columns that came since; all may be null."""
    present = sa.inspect(engine)
    for table in Base.metadata.sorted_tables:
        known = {column["name"] for column in present.get_columns(table.name)}
        for column in table.columns:
            if column.name not in known:
                kind = column.type.compile(engine.dialect)
                with engine.begin() as connection:
                    connection.execute(sa.text(f"alter table {table.name} add column {column.name} {kind}"))


def _stale(expected: int, found: int) -> str:
    return (
        f"The rollout is at epoch {found}; this decision was made on epoch {expected}. "
        "Somebody else moved it first: look again and decide anew."
    )


def _decision(
    epoch: int, version: str, stage: str, decision: str, reasons: Sequence[str], evidence: dict[str, Any], actor: str
) -> DecisionRow:
    return DecisionRow(
        epoch=epoch,
        version=version,
        stage=stage,
        decision=decision,
        reasons=json.dumps(list(reasons), ensure_ascii=False),
        evidence=json.dumps(evidence, ensure_ascii=False),
        actor=actor,
        decided_at=utc_now(),
    )


def _decision_record(row: DecisionRow) -> DecisionRecord:
    return DecisionRecord(
        epoch=row.epoch,
        version=row.version,
        stage=row.stage,
        decision=row.decision,
        reasons=tuple(json.loads(row.reasons)),
        evidence=json.loads(row.evidence),
        actor=row.actor,
        decided_at=row.decided_at,
    )


def _version_record(row: Version) -> VersionRecord:
    fields = {column.key: getattr(row, column.key) for column in sa.inspect(Version).columns}
    for key in _JSON_FIELDS:
        fields[key] = json.loads(fields[key]) if fields[key] else None
    return VersionRecord(**fields)


def _deployment_state(row: Deployment | None) -> DeploymentState:
    if row is None:
        return DeploymentState(0, None, None, None, None, None)
    return DeploymentState(
        row.epoch, row.champion, row.previous, row.challenger, row.stage, row.stage_since, row.paused
    )


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
