"""When the next version is due."""

from typing import Literal

from pydantic import Field

from dpo_pipeline.settings.section import Section


class Phase(Section):
    frequency: Literal["weekly", "bi-weekly", "monthly"]
    min_samples: int = Field(ge=1, description="valid pairs not yet used by an accepted version that make training due")


class Cadence(Section):
    startup: Phase = Phase(frequency="weekly", min_samples=100)
    growth: Phase = Phase(frequency="bi-weekly", min_samples=200)
    mature: Phase = Phase(frequency="monthly", min_samples=300)
    weekly_minimum: int = Field(100, ge=1, description="votes a week below which reminders go out")
    weekly_target: int = Field(300, ge=1, description="votes a week to aim at")
    weekly_optimal: int = Field(500, ge=1, description="votes a week beyond which more adds little")
    phase: Literal["auto", "startup", "growth", "mature"] = Field(
        "auto", description="auto: by the number of accepted DPO versions"
    )
    growth_after: int = Field(3, ge=1, description="accepted DPO versions after which the growth phase begins")
    mature_after: int = Field(8, ge=1, description="accepted DPO versions after which the mature phase begins")
    labels_per_pair: int = Field(
        4,
        ge=1,
        description="answers called good or bad that count as one pair, where the objective trains on them; a guess",
    )
    labels_may_decide: bool = Field(
        True,
        description="where valid pairs are fewer than half of the threshold, answers called good or bad may make up "
        "the rest: the version is trained by the objective kto then",
    )
    cooldown_h: float = Field(0, ge=0, description="hours between two trainings, at least")
    max_attempts: int = Field(3, ge=1, description="trainings of one version before it is given up")
