"""What the ledger holds, as values; and the form of every moment in it."""

from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from dpo_pipeline.core.versions import VersionRecord


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
    def in_charge(self) -> str:
        """Who serves, as messages say it."""
        return f"{self.champion} is champion" if self.champion else "there is no champion yet"

    @property
    def baseline(self) -> str | None:
        """What the subject is measured against."""
        return self.champion if self.challenger else self.previous


@dataclass(frozen=True)
class DecisionRecord:
    """`id` grows from each decision to the next."""

    id: int
    epoch: int
    version: str
    stage: str
    decision: str
    reasons: tuple[str, ...]
    evidence: dict[str, Any]
    actor: str
    decided_at: str


def as_json(record: VersionRecord | DeploymentState | DecisionRecord) -> dict[str, Any]:
    return asdict(record)


def utc_now() -> str:
    """Now, RFC 3339 in UTC."""
    return utc_text(datetime.now(UTC))


def utc_text(moment: datetime) -> str:
    """RFC 3339 in UTC, as every record has it: such texts compare like their moments."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds")[: -len("+00:00")] + "Z"
