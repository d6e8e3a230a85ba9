"""The stages of a rollout, in their order, and the policy of each."""

from dpo_pipeline.settings import RolloutPolicy, StagePolicy

STAGES = ("staging", "canary", "small", "half", "full")
MANUAL_PROMOTION = "manual promotion"
"""What the ledger calls it where a person makes a version champion at once, past all stages."""


def traffic_of(stage: str, policy: RolloutPolicy) -> float:
    """Share of the traffic that the challenger gets in this stage."""
    return stage_policy(stage, policy).traffic


def stage_policy(stage: str, policy: RolloutPolicy) -> StagePolicy:
    found: StagePolicy = getattr(policy, stage)
    return found


def next_stage(stage: str) -> str | None:
    """The stage after this one; null after the last."""
    place = STAGES.index(stage) + 1
    return STAGES[place] if place < len(STAGES) else None
