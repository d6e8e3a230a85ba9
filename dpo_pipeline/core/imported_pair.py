"""A pair from elsewhere, and the event of the preference log that it becomes."""

import hashlib
from dataclasses import dataclass
from typing import Literal

import msgspec

from dpo_pipeline.core.message_formats import Prompt
from dpo_pipeline.core.redaction import Redactor, redact
from dpo_pipeline.core.votes import Message, Preference, Vote, outcome, prompt_text


@dataclass(frozen=True)
class ImportedPair:
    """A pair and the name of the form it was in.

    `scores` are of chosen and rejected. `undecided`: nobody won, and `chosen` is the first answer only.
    """

    form: str
    prompt: Prompt
    chosen: str
    rejected: str
    category: str = "other"
    scores: tuple[float, float] | None = None
    undecided: Literal["tie", "both_bad"] | None = None


def as_preference(pair: ImportedPair, source_name: str, recorded_at: str, redact: Redactor = redact) -> Preference:
    """The event of an imported pair, without personal data. Its id is the hash of the pair: the same is the same event.

    Which side was a, and stood on the left, hangs on that hash: the log keeps no trace of "chosen first".
    """
    parts = (prompt_text(pair.prompt), pair.chosen, pair.rejected, *filter(None, [pair.undecided]))
    digest = hashlib.sha256("\0".join(f"{len(part)}:{part}" for part in parts).encode()).hexdigest()
    a_is_chosen = int(digest[-1], 16) % 2 == 0
    won, lost = redact(pair.chosen), redact(pair.rejected)
    response_a, response_b = (won, lost) if a_is_chosen else (lost, won)
    vote: Vote = pair.undecided or ("a" if a_is_chosen else "b")
    chosen, rejected, chosen_model, rejected_model = outcome(vote, response_a, response_b, "imported-a", "imported-b")
    return Preference(
        event_id=f"imp-{digest[:32]}",
        recorded_at=recorded_at,
        comparison_id=f"imp-{digest[:32]}",
        session_id=f"import-{source_name}",
        prompt=_redacted(pair.prompt, redact),
        category=pair.category,  # type: ignore[arg-type]
        model_a="imported-a",
        model_b="imported-b",
        response_a=response_a,
        response_b=response_b,
        vote=vote,
        chosen=chosen,
        rejected=rejected,
        chosen_model=chosen_model,
        rejected_model=rejected_model,
        left="a",
        annotator=f"import-{source_name}",
        source="import",
        scores=msgspec.UNSET if pair.scores is None else pair.scores if a_is_chosen else pair.scores[::-1],
    )


def _redacted(prompt: Prompt, redact: Redactor) -> Prompt:
    if isinstance(prompt, str):
        return redact(prompt)
    return [Message(each.role, redact(each.content)) for each in prompt]
