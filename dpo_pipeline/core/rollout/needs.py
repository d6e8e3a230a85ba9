"""How much more has to be met before there is enough to judge a version by, each in its own unit."""

import math

from dpo_pipeline.core.exposure import RolloutPlan
from dpo_pipeline.core.rollout.evidence import Evidence
from dpo_pipeline.core.rollout.stages import STAGES, next_stage, stage_policy
from dpo_pipeline.settings import RolloutPolicy, StagePolicy


def requests_needed(stage: StagePolicy, plan: RolloutPlan) -> int:
    """Requests that the new version must have answered in a stage: `min_requests`, or half of what is expected."""
    policy = plan.policy
    if not plan.audience.requests:
        return policy.min_requests
    expected = plan.audience.requests_an_hour * stage.traffic * stage.hours * policy.duration_scale
    return max(1, min(policy.min_requests, math.ceil(expected / 2)))


def more_requests(evidence: Evidence, plan: RolloutPlan) -> str:
    """What the new version has not answered yet, such as "needs 18 more requests"; empty where it has.

    In staging these are shadow copies, where any are made; at full traffic one request is enough.
    """
    if evidence.stage == STAGES[0]:
        needed = plan.policy.min_requests if plan.shadow_share else 0
        return _needs(needed - evidence.met.new, "shadow copy", "shadow copies")
    last = next_stage(evidence.stage) is None
    needed = 1 if last else requests_needed(stage_policy(evidence.stage, plan.policy), plan)
    return _needs(needed - evidence.new.requests, "request", "requests")


def more_ratings(evidence: Evidence, policy: RolloutPolicy) -> str:
    """Likewise of ratings, of either version."""
    needed = max(policy.min_ratings, 1)
    given = {"the new version": evidence.new.ratings, "the baseline": evidence.baseline.ratings}
    short = [(_needs(needed - ratings, "rating", "ratings"), name) for name, ratings in given.items()]
    return ", ".join(f"{needs} of {name}" for needs, name in short if needs)


def more_votes(votes: int, policy: RolloutPolicy) -> str:
    return _needs(policy.min_ab_votes - votes, "vote", "votes")


def _needs(missing: int, one: str, several: str) -> str:
    return f"needs {missing:,} more {one if missing == 1 else several}" if missing > 0 else ""
