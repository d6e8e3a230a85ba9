"""What people see of a comparison: two answers to vote on, and what a vote on them reveals."""

from dataclasses import dataclass

from dpo_pipeline.stores.serving_state import StoredComparison

Prompt = str | list[dict[str, str]]


@dataclass(frozen=True)
class ComparisonView:
    """What the person gets to see."""

    comparison_id: str
    token: str
    prompt: Prompt
    category: str
    left: str
    right: str
    expires_at: str


@dataclass(frozen=True)
class Recorded:
    """A vote on disk. `repeated` where it was there already, `withdrawn` where its voter took it back."""

    event_id: str
    comparison_id: str
    left_model: str
    right_model: str
    category: str
    source: str
    repeated: bool
    withdrawn: bool = False


def revealed(comparison: StoredComparison, repeated: bool, withdrawn: bool = False) -> Recorded:
    """What a vote on it reveals."""
    models = (comparison.model_a, comparison.model_b)
    left, right = models if comparison.left == "a" else models[::-1]
    return Recorded(
        event_id=comparison.event_id,
        comparison_id=comparison.comparison_id,
        left_model=left,
        right_model=right,
        category=comparison.category,
        source=comparison.source,
        repeated=repeated,
        withdrawn=withdrawn,
    )


@dataclass(frozen=True)
class PartialView:
    """Two answers while they are being written, sides already shuffled."""

    left: str
    right: str
