"""The rollout in the ledger: who serves, who is being rolled out, and every decision with what it rested on.

Every change carries the epoch it was decided on: a writer who looked earlier is refused.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from dpo_pipeline.core.lifecycle import Status
from dpo_pipeline.core.rollout import MANUAL_PROMOTION, STAGES, next_stage
from dpo_pipeline.errors import LedgerError, NoRollout, StaleEpoch
from dpo_pipeline.stores.ledger.deployment_rows import decision_record, deployment_state, stale, what_it_rested_on
from dpo_pipeline.stores.ledger.records import DecisionRecord, DeploymentState
from dpo_pipeline.stores.ledger.tables import DECISIONS, DEPLOYMENT
from dpo_pipeline.stores.ledger.version_rows import set_status
from dpo_pipeline.stores.ledger.versions import VersionLedger


class Ledger(VersionLedger):
    """Versions and rollout together: one transaction changes both."""

    def __enter__(self) -> "Ledger":
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def deployment(self) -> DeploymentState:
        with self._reading() as connection:
            return deployment_state(connection)

    def install_champion(self, name: str, actor: str) -> DeploymentState:
        """Make the first version champion; does nothing where there is one."""
        self.version(name)
        with self._writing() as connection:
            if connection.execute(sa.select(DEPLOYMENT.c.id)).first() is None:
                first = {"id": 1, "epoch": 1, "champion": name, "paused": False}
                connection.execute(sa.insert(DEPLOYMENT).values(first))
                self._add_decision(connection, 1, name, "full", "promote", ("the first version",), {}, actor)
                set_status(connection, name, Status.CHAMPION, self.clock())
            return deployment_state(connection)

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
        change = {"challenger": name, "stage": STAGES[0], "stage_since": self.clock(), "paused": False, "plan": kept}
        return self._move(
            epoch, change, [(name, Status.ROLLING_OUT)], (name, STAGES[0], "promote", reasons, evidence or {}, actor)
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
        if state.epoch != epoch:
            raise StaleEpoch(stale(epoch, state.epoch))
        if stage != next_stage(state.stage or STAGES[0]):
            raise LedgerError(
                f"{state.challenger} is at stage {state.stage}; {next_stage(state.stage or STAGES[0])} comes next, not "
                f"{stage}. Stages are never left out: promote it step by step."
            )
        change: dict[str, Any] = {"stage": stage, "stage_since": self.clock()}
        statuses: list[tuple[str | None, Status]] = []
        if stage == STAGES[-1]:
            change |= {"champion": state.challenger, "previous": state.champion, "challenger": None}
            statuses = [(state.champion, Status.RETIRED), (state.challenger, Status.CHAMPION)]
        return self._move(epoch, change, statuses, (state.challenger, stage, "promote", reasons, evidence, actor))

    def roll_back(self, epoch: int, reasons: Sequence[str], evidence: dict[str, Any], actor: str) -> DeploymentState:
        """Roll the challenger back; a champion at stage full gives way to the previous one."""
        state = self.deployment()
        if state.challenger:
            change: dict[str, Any] = {"challenger": None, "stage": None, "stage_since": None, "paused": False}
            statuses: list[tuple[str | None, Status]] = [(state.challenger, Status.ROLLED_BACK)]
        elif state.previous and state.stage == STAGES[-1]:
            change = {"champion": state.previous, "previous": None, "stage": None, "stage_since": None}
            statuses = [(state.champion, Status.ROLLED_BACK), (state.previous, Status.CHAMPION)]
        else:
            raise NoRollout(f"Nothing to roll back: {state.in_charge} and no version is being rolled out.")
        stage = state.stage or STAGES[-1]
        return self._move(epoch, change, statuses, (state.subject, stage, "rollback", reasons, evidence, actor))

    def promote_manually(self, name: str, epoch: int, reasons: Sequence[str], actor: str) -> DeploymentState:
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
            change |= {"previous": state.champion, "stage": STAGES[-1], "stage_since": self.clock()}
        statuses: list[tuple[str | None, Status]] = [(state.champion, Status.RETIRED), (name, Status.CHAMPION)]
        if state.challenger and state.challenger != name:
            statuses.append((state.challenger, Status.RETIRED))
        return self._move(epoch, change, statuses, (name, STAGES[-1], MANUAL_PROMOTION, reasons, {}, actor))

    def mirrored(self) -> dict[str, str]:
        """MLflow's version number by alias, as this project set them last."""
        with self._reading() as connection:
            noted = connection.scalar(sa.select(DEPLOYMENT.c.mirrored))
            return json.loads(noted) if noted else {}

    def note_mirrored(self, aliases: Mapping[str, str]) -> None:
        with self._writing() as connection:
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
            raise StaleEpoch(stale(epoch, state.epoch))
        with self._writing() as connection:
            newest = connection.execute(sa.select(DECISIONS).order_by(DECISIONS.c.id.desc()).limit(1)).first()
            if newest is not None and (newest.decision, newest.epoch) == ("hold", epoch):
                again = what_it_rested_on(reasons, evidence, self.clock())
                connection.execute(sa.update(DECISIONS).where(DECISIONS.c.id == newest.id).values(again))
            else:
                self._add_decision(
                    connection,
                    epoch,
                    subject,
                    state.stage or STAGES[-1],
                    "hold",
                    reasons,
                    evidence,
                    actor,
                )

    def record_refusal(self, name: str, reason: str, actor: str) -> None:
        """Note an order that was not carried out."""
        state = self.deployment()
        with self._writing() as connection:
            self._add_decision(
                connection, state.epoch, name, state.stage or STAGES[-1], "refused", (reason,), {}, actor
            )

    def decisions(
        self, version: str | None = None, before: int | None = None, newest: int | None = None
    ) -> list[DecisionRecord]:
        """Oldest first.

        Args:
            before: only those made before the one of this id.
            newest: so many of them at most, the newest ones.
        """
        query = sa.select(DECISIONS).order_by(DECISIONS.c.id.desc()).limit(newest)
        if version:
            query = query.where(DECISIONS.c.version == version)
        if before is not None:
            query = query.where(DECISIONS.c.id < before)
        with self._reading() as connection:
            return [decision_record(row) for row in connection.execute(query).mappings()][::-1]

    def current_rollout(self) -> DeploymentState:
        """
        Raises:
            NoRollout: no version is being rolled out.
        """
        state = self.deployment()
        if not state.challenger:
            raise NoRollout(f"No version is being rolled out; {state.in_charge}.")
        return state

    def _move(
        self,
        epoch: int,
        change: dict[str, Any],
        statuses: Sequence[tuple[str | None, Status]],
        decision: tuple[Any, ...],
    ) -> DeploymentState:
        """One transaction: compare the epoch, change the row, set statuses, add the decision."""
        with self._writing() as connection:
            moved = connection.execute(
                sa.update(DEPLOYMENT).where(DEPLOYMENT.c.epoch == epoch).values(epoch=epoch + 1, **change)
            )
            if moved.rowcount != 1:
                raise StaleEpoch(stale(epoch, deployment_state(connection).epoch))
            for name, status in statuses:
                if name:
                    set_status(connection, name, status, self.clock())
            self._add_decision(connection, epoch + 1, *decision)
            return deployment_state(connection)

    def _add_decision(
        self,
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
        rested_on = what_it_rested_on(reasons, evidence, self.clock())
        connection.execute(sa.insert(DECISIONS).values(what | rested_on))
