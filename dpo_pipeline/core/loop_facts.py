"""How the loop is at a moment: what its overview is made of."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from dpo_pipeline.core.cadence import CadenceDecision
from dpo_pipeline.core.curation import CurationSummary
from dpo_pipeline.core.lifecycle import Status
from dpo_pipeline.core.progress import STILL_S, TaskProgress
from dpo_pipeline.core.versions import VersionRecord


@dataclass(frozen=True)
class InProduction:
    """Who answers people. `left_h`: hours until full traffic at the earliest, null where no rollout is under way."""

    champion: str | None
    challenger: str | None = None
    stage: str | None = None
    traffic: float = 0.0
    paused: bool = False
    left_h: float | None = None


@dataclass(frozen=True)
class LoopFacts:
    """What the overview is made of. `tasks`: newest report of each; `now`: seconds since the epoch; `unread_s`: for how
    long at least there are votes that nothing has read.
    """

    summary: CurationSummary
    cadence: CadenceDecision
    versions: Sequence[VersionRecord]
    served: InProduction
    tasks: Sequence[TaskProgress]
    max_attempts: int
    now: float
    unread_s: float = 0.0

    @property
    def in_training(self) -> VersionRecord | None:
        """The version whose training was begun and not ended."""
        newest = self.versions[-1] if self.versions else None
        return newest if newest and newest.status == Status.TRAINING else None

    @property
    def training(self) -> TaskProgress | None:
        """How far it is; null while nothing is trained, or before its first step. Reports of earlier ones are none."""
        record = self.in_training
        wanted, begun = ("sft", "dpo"), 0.0
        if record:
            begun = datetime.fromisoformat(record.updated_at).timestamp()
        elif self.served.champion is None:
            wanted = ("base_model", "sft")
        else:
            return None
        found = [each for each in self.tasks if each.task in wanted and not each.done and each.updated >= begun]
        return found[0] if found else None

    @property
    def judging(self) -> TaskProgress | None:
        """How far the evaluation is; one that has stood still for long is none."""
        found = [each for each in self.tasks if each.task == "eval" and not each.done]
        return next((each for each in found if self.now - each.updated < STILL_S), None)
