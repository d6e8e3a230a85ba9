"""Which pairs a rollback puts in question: until a person looked at them, the next version is not trained on them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dpo_pipeline.core.feedback import FeedbackMark
from dpo_pipeline.core.lifecycle import ACCEPTED
from dpo_pipeline.core.versions import VersionRecord, iteration


@dataclass(frozen=True)
class Read:
    """How far a version had read people's feedback; with labels where it was trained on judgements too."""

    mark: FeedbackMark
    labels: bool


@dataclass(frozen=True)
class Suspect:
    """A version that evidence of harm rolled back, and the places of valid pairs, in the order of the log and counted
    from 1, that this puts in question: those in (after, up_to], which no earlier accepted version was trained on, and
    those with an answer of its own; of both only what lies behind `accepted`, up to which a later version was trained
    and accepted all the same.

    Likewise of feedback: what calls an answer of its own good, and what it had `read` and none of those `before` it;
    but not what one of those `since` was trained on.
    """

    version: str
    after: int
    up_to: int
    accepted: int
    harm: str
    read: Read | None = None
    before: tuple[Read, ...] = ()
    since: tuple[Read, ...] = ()

    @property
    def reason(self) -> str:
        return (
            f"{self.version} was rolled back ({self.harm}); it wrote one of these answers, or it alone was trained on "
            "them"
        )


def suspects(versions: Sequence[VersionRecord], harm: Mapping[str, str]) -> tuple[Suspect, ...]:
    """
    Args:
        harm: of each version that was rolled back for harm, what it was.
    """

    found = []
    for record in (each for each in versions if each.name in harm):
        accepted = [each for each in versions if each.status in ACCEPTED]
        earlier = [each for each in accepted if iteration(each.name) < iteration(record.name)]
        later = [each for each in accepted if iteration(each.name) > iteration(record.name)]
        found.append(
            Suspect(
                record.name,
                after=max((each.pairs_seen for each in earlier), default=0),
                up_to=record.pairs_seen,
                accepted=max((each.pairs_seen for each in later), default=0),
                harm=harm[record.name],
                read=next(iter(_read([record])), None),
                before=_read(earlier),
                since=_read(later),
            )
        )
    return tuple(found)


def _read(versions: Sequence[VersionRecord]) -> tuple[Read, ...]:
    return tuple(
        Read(FeedbackMark(**each.feedback_mark), bool(each.labelled)) for each in versions if each.feedback_mark
    )
