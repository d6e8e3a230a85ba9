"""Which pairs a rollback puts in question: until a person looked at them, the next version is not trained on them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dpo_pipeline.core.lifecycle import ACCEPTED
from dpo_pipeline.core.versions import VersionRecord, iteration


@dataclass(frozen=True)
class Suspect:
    """A version that evidence of harm rolled back, and the places of valid pairs, in the order of the log and counted
    from 1, that this puts in question: those in (after, up_to], which no earlier accepted version was trained on, and
    those with an answer of its own; of both only what lies behind `accepted`, up to which a later version was trained
    and accepted all the same.
    """

    version: str
    after: int
    up_to: int
    accepted: int
    harm: str

    @property
    def reason(self) -> str:
        return (
            f"{self.version} was rolled back ({self.harm}); it wrote one of these answers, or it alone was trained on "
            "this pair"
        )


def suspects(versions: Sequence[VersionRecord], harm: Mapping[str, str]) -> tuple[Suspect, ...]:
    """
    Args:
        harm: of each version that was rolled back for harm, what it was.
    """

    accepted = [(iteration(each.name), each.pairs_seen) for each in versions if each.status in ACCEPTED]
    found = []
    for record in versions:
        if record.name in harm:
            own = iteration(record.name)
            earlier = max((seen for number, seen in accepted if number < own), default=0)
            later = max((seen for number, seen in accepted if number > own), default=0)
            found.append(Suspect(record.name, earlier, record.pairs_seen, later, harm[record.name]))
    return tuple(found)
