"""How versions are rolled out, and what rolls them back."""

from typing import Literal

from pydantic import Field

from dpo_pipeline.settings.section import Section


class StagePolicy(Section):
    """One stage of the rollout: how much traffic, how long, and what rolls the version back."""

    traffic: float = Field(ge=0, le=1)
    hours: float = Field(ge=0, description="for at least this long")
    max_error_rate: float | None = Field(None, description="rolled back above this error rate")


class RolloutPolicy(Section):
    """How versions are rolled out. A rollout keeps the policy it began with: a change acts on the next one."""

    staging: StagePolicy = StagePolicy(traffic=0.0, hours=0)
    canary: StagePolicy = StagePolicy(traffic=0.05, hours=24, max_error_rate=0.05)
    small: StagePolicy = StagePolicy(traffic=0.20, hours=48, max_error_rate=0.03)
    half: StagePolicy = StagePolicy(traffic=0.50, hours=72, max_error_rate=0.02)
    full: StagePolicy = StagePolicy(traffic=1.00, hours=0, max_error_rate=0.02)
    duration_scale: float = Field(1.0, gt=0, description="multiplies every duration; `make demo` compresses with it")
    max_error_ratio: float = Field(1.5, description="rolled back above this multiple of the baseline's error rate")
    max_p99_ms: float = Field(2000, description="rolled back above this p99 latency")
    min_satisfaction_ratio: float = Field(
        0.9, description="rolled back below this share of the baseline's satisfaction"
    )
    max_crash_rate: float = Field(0.01, description="rolled back above this crash rate")
    check_every_s: float = Field(
        60, gt=0, description="seconds between two checks of a version that is being rolled out"
    )
    watch_every_s: float = Field(900, gt=0, description="seconds between two checks of a champion at full traffic")
    min_requests: int = Field(30, ge=1, description="requests of the new version in a stage before it can be promoted")
    min_ratings: int = Field(10, ge=0, description="ratings of the new version in a stage before they count")
    min_ab_votes: int = Field(50, ge=1, description="decided A/B votes before staging can end")
    ab_alpha: float = Field(0.05, gt=0, lt=0.5, description="error rate of the A/B test, however often it is looked at")
    count_unproven: bool = Field(
        False, description="whether votes, ratings and requests of people whom nobody vouches for decide too"
    )
    votes_per_person: int = Field(20, ge=1, description="A/B votes of one person that count, as one mean")
    harm_alpha: float = Field(0.05, gt=0, lt=0.5, description="chance that a harmless version is ever rolled back")
    no_harm_alpha: float = Field(0.05, gt=0, lt=0.5, description="error rate of the bounds that promotion needs")
    no_harm_factor: float = Field(
        2.0, ge=1, description="promotion rules out an error rate of this multiple of the stage's limit"
    )
    satisfaction_margin: float = Field(
        0.1, gt=0, lt=1, description="beyond 20 % of traffic, promotion rules out a satisfaction this much lower"
    )
    srm_alpha: float = Field(
        0.001, gt=0, lt=0.5, description="error rate of the check that both groups are drawn alike"
    )
    unit: Literal["auto", "person", "conversation", "request"] = Field(
        "auto", description="what is assigned to a version; auto: the largest that fits the audience"
    )
    min_stage_units: int = Field(
        20,
        ge=1,
        description="people (or conversations) a week that the canary's share must hold to be assigned by them",
    )
    reading: Literal["auto", "panel", "population"] = Field(
        "auto",
        description="what the A/B test tells: what these voters prefer, or people like them; auto: by their number",
    )
    undecided: Literal["promote", "ask", "rollback"] = Field(
        "promote",
        description="when a stage is over, nothing speaks against a version and the audience cannot rule out more",
    )
    patience: float = Field(
        1.5, ge=1, description="multiple of a stage's hours for which margins that can be reached are waited for"
    )
    shadow_copies_a_day: int = Field(
        1000, ge=0, description="in staging, chat requests a day that the new version answers too, unseen; 0: none"
    )
    stage_limit: float = Field(
        10, gt=1, description="multiple of a stage's hours after which a held version is rolled back"
    )
    staging_limit_h: float = Field(336, gt=0, description="hours after which an undecided A/B test is given up")
