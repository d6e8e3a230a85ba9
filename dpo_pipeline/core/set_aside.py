"""Which pairs a rollback puts in question: until a person looked at them, the next version is not trained on them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dpo_pipeline.core.lifecycle import ACCEPTED
from dpo_pipeline.core.versions import VersionRecord, iteration


@dataclass(frozen=True)
class Suspect:
    """A version that evidence of harm rolled back. Of the valid pairs, in the order of the log and counted from 1, it
    alone was trained on those in (after, up_to]; in question are these, and those with an answer of its own.
    """

    version: str
    after: int
    up_to: int
    harm: str

    @property
    def reason(self) -> str:
        return f"{self.version}, which wrote an answer of it or alone was trained on it, was rolled back: {self.harm}"


def suspects(versions: Sequence[VersionRecord], harm: Mapping[str, str]) -> tuple[Suspect, ...]:
    """
    Args:
        harm: of each version that was rolled back for harm, what it was.
    """

    def seen_before(record: VersionRecord) -> int:
        earlier = (
            each for each in versions if each.status in ACCEPTED and iteration(each.name) < iteration(record.name)
        )
        return max((each.pairs_seen for each in earlier), default=0)

    return tuple(
        Suspect(record.name, seen_before(record), record.pairs_seen, harm[record.name])
        for record in versions
        if record.name in harm
    )
