"""A preference with its validation result, as people browse it, and which of them somebody wants to see."""

from dataclasses import dataclass, replace
from typing import Literal

from dpo_pipeline.core.quality import CRITERIA
from dpo_pipeline.core.votes import NO_REASON, VoteReason

ReviewAction = Literal["exclude", "set_aside", "restore", "keep", "withdraw"]
"""All but `set_aside` are a person's; `keep` says that a person looked at what is not taken out, and leaves it so;
`withdraw` is the voter's own, and holds whatever is said later."""
EXCLUDED, SET_ASIDE, WITHDRAWN = "excluded", "set_aside", "withdrawn"
CORRECTION = "correction"
"""The source of a pair that is a corrected answer, B, over what was answered, A."""
JUDGEMENT = "judgement"
"""In the place of the other model, where an answer alone was judged: A is the answer, B what was said of it."""
TAKEN_OUT: dict[str, str] = {"exclude": EXCLUDED, "set_aside": SET_ASIDE, "withdraw": WITHDRAWN}
MEANINGS = {
    **CRITERIA,
    EXCLUDED: "a person excluded it, with a reason",
    SET_ASIDE: "a version that wrote an answer of it, or alone was trained on it, was rolled back for harm",
    WITHDRAWN: "whoever voted said at once that it was a slip",
    "said_again": "the same person corrected the same answer again later",
    "held_out_question": "versions are judged on this question",
}
"""All that a rejected pair can have failed."""


SHORT_MEANINGS = {
    "no_winner": "tie or both bad",
    "empty": "one side is empty",
    "identical": "the same text twice",
    "length_ratio": "chosen answer much shorter",
    "similarity": "answers nearly the same",
    "too_short": "an answer is too short",
    "more_detailed": "chosen answer not more detailed",
    "template_tokens": "chat-template tokens",
    "self_naming": "an answer names its model",
    "contradiction": "contradicts an earlier vote",
    "repeat": "repeats an earlier vote",
    "annotator_share": "too many pairs of one person",
    "anonymous_share": "too many pairs of strangers",
    EXCLUDED: "excluded by a person",
    SET_ASIDE: "set aside after a rollback",
    WITHDRAWN: "taken back as a slip",
    "said_again": "corrected again later",
    "held_out_question": "held-out question",
}
"""The same in a few words, for lists."""


@dataclass(frozen=True)
class ValidatedPair:
    """`failed` is empty for a valid pair; `why` is the voter's reason, `reason` why it was taken out, empty where it
    was not.
    """

    event_id: str
    recorded_at: str
    prompt: str
    category: str
    model_a: str
    model_b: str
    response_a: str
    response_b: str
    vote: str
    annotator: str
    source: str
    failed: tuple[str, ...]
    reason: str = ""
    why: VoteReason = NO_REASON

    @property
    def valid(self) -> bool:
        return not self.failed

    @property
    def is_judgement(self) -> bool:
        """Of one answer: there is nothing that it was preferred to."""
        return self.model_b == JUDGEMENT

    @property
    def taken_out(self) -> bool:
        """By a person, by whoever voted or after a rollback, whatever else it fails."""
        return not set(TAKEN_OUT.values()).isdisjoint(self.failed)

    def reviewed(self, action: ReviewAction, reason: str) -> "ValidatedPair":
        """The same pair after a review; what it failed by itself stays."""
        own = tuple(name for name in self.failed if name not in TAKEN_OUT.values())
        if action not in TAKEN_OUT:
            return replace(self, failed=own, reason="")
        return replace(self, failed=(*own, TAKEN_OUT[action]), reason=reason)


@dataclass(frozen=True)
class PairFilter:
    """Empty: any. `text` is looked for in question and answers, whatever its case; `review` is whether a person has
    looked at the pair, which the pair itself does not tell.
    """

    result: Literal["all", "valid", "rejected"] = "all"
    criterion: str = ""
    category: str = ""
    version: str = ""
    source: str = ""
    text: str = ""
    review: Literal["", "open", "done"] = ""

    def fits(self, pair: ValidatedPair) -> bool:
        text = self.text.strip().casefold()
        return (
            (self.result == "all" or (self.result == "valid") == pair.valid)
            and (not self.criterion or self.criterion in pair.failed)
            and (not self.category or self.category == pair.category)
            and (not self.version or self.version in (pair.model_a, pair.model_b))
            and (not self.source or self.source == pair.source)
            and (not text or any(text in part.casefold() for part in (pair.prompt, pair.response_a, pair.response_b)))
        )
