"""A choice on what was shown, as the event that goes into the preference log."""

from typing import Any

import msgspec

from dpo_pipeline.core.votes import Choice, Preference, Vote, VoteReason, outcome
from dpo_pipeline.stores.ledger import utc_now
from dpo_pipeline.stores.serving_state import StoredComparison


def as_vote(choice: Choice, left: str) -> Vote:
    """The choice of a side as a vote on a and b.

    Args:
        left: which of a and b was shown on the left.
    """
    if choice == "tie" or choice == "both_bad":
        return choice
    right = "b" if left == "a" else "a"
    return "a" if (left if choice == "left" else right) == "a" else "b"


def as_choice(vote: Vote, left: str) -> Choice:
    """A vote on a and b as the choice of a side: the other way of `as_vote`."""
    if vote == "tie" or vote == "both_bad":
        return vote
    return "left" if vote == left else "right"


def preference(shown: StoredComparison, vote: Vote, why: VoteReason) -> Preference:
    """The event of a vote given now."""
    chosen, rejected, chosen_model, rejected_model = outcome(
        vote, shown.response_a, shown.response_b, shown.model_a, shown.model_b
    )
    line: dict[str, Any] = {
        "event_id": shown.event_id,
        "recorded_at": utc_now(),
        "comparison_id": shown.comparison_id,
        "session_id": shown.session_id,
        "prompt": shown.prompt,
        "category": shown.category,
        "model_a": shown.model_a,
        "model_b": shown.model_b,
        "response_a": shown.response_a,
        "response_b": shown.response_b,
        "vote": vote,
        "chosen": chosen,
        "rejected": rejected,
        "chosen_model": chosen_model,
        "rejected_model": rejected_model,
        "left": shown.left,
        "annotator": shown.annotator,
        "source": shown.source,
        "sampling": {
            "temperature": shown.temperature,
            "top_p": shown.top_p,
            "max_tokens": shown.max_tokens,
            "seed": shown.seed,
        },
        "propensity": shown.propensity,
        "steered": shown.steered,
    }
    if shown.identity is not msgspec.UNSET:
        line["identity"] = shown.identity
    if shown.prompt_ratio != 1.0:
        line["prompt_ratio"] = shown.prompt_ratio
    if shown.asked_by:
        line["asked_by"] = shown.asked_by
    said = {"strength": why.strength, "reason_tags": list(why.tags), "reason": why.words}
    line.update({name: value for name, value in said.items() if value})
    return msgspec.convert(line, Preference)
