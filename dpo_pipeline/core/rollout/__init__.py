"""Stages and measurements → promote | hold | rollback, with reasons. Reading logs and moving the ledger are elsewhere.

`evidence` is what a decision looks at, `conditions` are the rules for rolling a version back, literal and as a test,
`decide` says what to do.
"""

from dpo_pipeline.core.rollout.condition import COMPARED, Condition, Interval, harm_of, state_of
from dpo_pipeline.core.rollout.conditions import conditions, should_rollback
from dpo_pipeline.core.rollout.decide import HARM, RolloutDecision, decide
from dpo_pipeline.core.rollout.evidence import Evidence, Exposure, VersionMetrics
from dpo_pipeline.core.rollout.needs import requests_needed
from dpo_pipeline.core.rollout.spending import EACH_OTHER, SPENT_AT, STAGE_ENDS
from dpo_pipeline.core.rollout.stages import MANUAL_PROMOTION, STAGES, next_stage, stage_policy, traffic_of

__all__ = [
    "COMPARED",
    "EACH_OTHER",
    "HARM",
    "MANUAL_PROMOTION",
    "SPENT_AT",
    "STAGES",
    "STAGE_ENDS",
    "Condition",
    "Evidence",
    "Exposure",
    "Interval",
    "RolloutDecision",
    "VersionMetrics",
    "conditions",
    "decide",
    "harm_of",
    "next_stage",
    "requests_needed",
    "should_rollback",
    "stage_policy",
    "state_of",
    "traffic_of",
]
