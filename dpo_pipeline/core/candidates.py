"""Which two of several answers a person compares: a vote that could train nothing, whichever way it goes, is lost.

Only among samples of one version. Two versions are compared as they answer: to choose among their answers would change
what the vote says of them.
"""

from collections.abc import Sequence

from dpo_pipeline.core.quality import failed_criteria
from dpo_pipeline.settings import QualityCriteria


def best_partner(first: str, others: Sequence[str], criteria: QualityCriteria) -> int:
    """The place among `others` of the answer that is shown beside `first`.

    The earliest of those with which most votes (for one, for the other) make a valid pair; where no vote would, the
    earliest that is another text.

    Args:
        others: one or more.
    """

    def worth(other: str) -> tuple[int, bool]:
        valid = [not failed_criteria(*pair, criteria) for pair in ((first, other), (other, first))]
        return sum(valid), other.strip() != first.strip()

    return max(range(len(others)), key=lambda place: (worth(others[place]), -place))
