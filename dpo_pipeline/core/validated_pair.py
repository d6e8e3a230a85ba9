"""A preference with its verdict, as people browse it, and which of them somebody wants to see."""

from dataclasses import dataclass
from typing import Literal

from dpo_pipeline.core.quality import CRITERIA
from dpo_pipeline.core.votes import NO_REASON, VoteReason

EXCLUDED = "excluded"
MEANINGS = {**CRITERIA, EXCLUDED: "a person excluded it, with a reason"}
"""All that a rejected pair can have failed."""


@dataclass(frozen=True)
class ValidatedPair:
    """`failed` is empty for a valid pair; `why` is the voter's reason, `reason` that of the newest exclusion, empty
    without one.
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
    def excluded(self) -> bool:
        return EXCLUDED in self.failed

    def reviewed(self, action: Literal["exclude", "restore"], reason: str) -> "ValidatedPair":
        """The same pair after a person's order; what it failed by itself stays."""
        own = tuple(name for name in self.failed if name != EXCLUDED)
        excluded = action == "exclude"
        fields = {
            **self.__dict__,
            "failed": (*own, EXCLUDED) if excluded else own,
            "reason": reason if excluded else "",
        }
        return ValidatedPair(**fields)


@dataclass(frozen=True)
class PairFilter:
    """Empty: any. `text` is looked for in question and answers, whatever its case."""

    verdict: Literal["all", "valid", "rejected"] = "all"
    criterion: str = ""
    category: str = ""
    version: str = ""
    source: str = ""
    text: str = ""

    def fits(self, pair: ValidatedPair) -> bool:
        text = self.text.strip().casefold()
        return (
            (self.verdict == "all" or (self.verdict == "valid") == pair.valid)
            and (not self.criterion or self.criterion in pair.failed)
            and (not self.category or self.category == pair.category)
            and (not self.version or self.version in (pair.model_a, pair.model_b))
            and (not self.source or self.source == pair.source)
            and (not text or any(text in part.casefold() for part in (pair.prompt, pair.response_a, pair.response_b)))
        )
