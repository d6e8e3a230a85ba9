"""Who meets a new version: the unit that is assigned, the two groups drawn by it, and the plan a rollout keeps.

What the two groups met is for `core.rollout` to judge.
"""

import hashlib
from dataclasses import asdict, dataclass
from typing import Any, Literal

from dpo_pipeline.settings import RolloutPolicy

Unit = Literal["person", "conversation", "request"]
HOURS_A_WEEK, SHORTEST_H = 168.0, 24.0


@dataclass(frozen=True)
class Audience:
    """Who used the model in the week before a rollout: counts, and over how many hours they were taken."""

    people: int = 0
    conversations: int = 0
    requests: int = 0
    ratings: int = 0
    hours: float = HOURS_A_WEEK

    @property
    def requests_an_hour(self) -> float:
        return self.requests / self.hours

    @property
    def conversations_a_week(self) -> float:
        return self.conversations * HOURS_A_WEEK / self.hours

    def units_an_hour(self, unit: Unit) -> float:
        """New units of assignment an hour; a person is new once a week."""
        counts = {"person": self.people, "conversation": self.conversations, "request": self.requests}
        return counts[unit] / self.hours


NO_AUDIENCE = Audience()


@dataclass(frozen=True)
class RolloutPlan:
    """What a rollout started with, kept in the ledger: a setting that changes meanwhile changes the next one.

    `shadow_share` is the share of the champion's requests that the new version answers too in staging, unseen.
    """

    policy: RolloutPolicy
    unit: Unit
    audience: Audience
    shadow_share: float

    def to_json(self) -> dict[str, Any]:
        return {
            "policy": self.policy.model_dump(mode="json"),
            "unit": self.unit,
            "audience": asdict(self.audience),
            "shadow_share": self.shadow_share,
        }

    @classmethod
    def from_json(cls, kept: dict[str, Any]) -> "RolloutPlan":
        return cls(
            RolloutPolicy(**kept["policy"]), kept["unit"], Audience(**kept["audience"]), float(kept["shadow_share"])
        )


def plan_rollout(policy: RolloutPolicy, audience: Audience) -> RolloutPlan:
    """The unit that fits the audience, and as many shadow copies as the budget allows."""
    unit = choose_unit(policy, audience) if policy.unit == "auto" else policy.unit
    a_day = 24 * audience.requests_an_hour
    share = min(1.0, policy.shadow_copies_a_day / a_day) if a_day else float(policy.shadow_copies_a_day > 0)
    return RolloutPlan(policy, unit, audience, share)


def choose_unit(policy: RolloutPolicy, audience: Audience) -> Unit:
    """The largest unit of which the canary's share of last week holds `min_stage_units`; else requests.

    A person who stays on one side has the smoothest experience. But 5 % of twelve people is nobody, or somebody for
    everything.
    """
    share = policy.canary.traffic
    if share * audience.people >= policy.min_stage_units:
        return "person"
    if share * audience.conversations_a_week >= policy.min_stage_units:
        return "conversation"
    return "request"


def unit_key(unit: Unit, person: str, conversation: str, request_id: str) -> str:
    """What a request is assigned by."""
    if unit == "person":
        return person
    return f"{person}\0{conversation}" if unit == "conversation" else request_id


def conversation_key(person: str, session_id: str, first_message: str) -> str:
    """The conversation a request belongs to: the client's session, else what the person began it with."""
    if session_id:
        return session_id
    return hashlib.blake2b(f"{person}\0{first_message}".encode(), digest_size=8).hexdigest()


def place_of(key: str, challenger: str) -> float:
    """A unit's place in [0, 1) for the rollout of a version; it hangs on both names alone."""
    digest = hashlib.blake2b(f"{challenger}\0{key}".encode("utf-8", "replace"), digest_size=8).digest()
    return int.from_bytes(digest, "little") / 2**64


def gets_challenger(key: str, challenger: str, traffic: float) -> bool:
    """Whether this unit is served the challenger: always the same answer while traffic does not shrink.

    Raising the traffic only ever moves units from the champion to the challenger, and a restart moves none.
    """
    return place_of(key, challenger) < traffic


def is_control(key: str, challenger: str, traffic: float) -> bool:
    """Whether a champion's unit is one of the control: a group as large as the challenger's, from the other end."""
    return place_of(key, challenger) >= max(1 - traffic, traffic)
