"""The vote on two answers side by side: recorded once, and for a few seconds taken back."""

from collections.abc import Sequence

from dpo_pipeline.core.admission import LONGEST_REASON, check_text
from dpo_pipeline.core.votes import NO_REASON, Choice, VoteReason
from dpo_pipeline.request_errors import InvalidRequest, TokenRefused
from dpo_pipeline.serving.access import RateLimits
from dpo_pipeline.serving.metrics import Metrics
from dpo_pipeline.serving.services.comparison_views import ComparisonView, Recorded
from dpo_pipeline.serving.services.comparisons import Comparisons
from dpo_pipeline.serving.services.keeping import asking
from dpo_pipeline.serving.services.visitors import Visitor
from dpo_pipeline.stores.serving_state import StoredComparison


class Voting:
    def __init__(self, comparisons: Comparisons, rates: RateLimits, metrics: Metrics):
        self._comparisons, self._rates, self._metrics = comparisons, rates, metrics

    async def vote(
        self,
        comparison_id: str,
        token: str,
        choice: Choice,
        visitor: Visitor,
        claimed: str | None,
        why: VoteReason = NO_REASON,
    ) -> Recorded:
        """Record a vote; on return it is on disk.

        Args:
            claimed: the pseudonym of whom the call names; null: it names nobody, and the token says enough.

        Raises:
            InvalidRequest: what was said of it does not fit.
            TokenRefused: the comparison is another person's, or was opened with a key that is not sent.
        """
        if (why.strength or why.tags) and choice not in ("left", "right"):
            raise InvalidRequest(
                "strength and reason_tags say what one answer has over the other; leave them out of a vote of "
                f"{choice!r}."
            )
        check_text("The reason", why.words, LONGEST_REASON)
        comparison = await asking(self._comparisons.find, comparison_id, token, claimed)
        if not visitor.speaks_for(comparison.annotator, str(comparison.identity)):
            raise TokenRefused("This comparison was opened with a key. Send the same key with the vote.")
        self._rates.check("votes", comparison.annotator, visitor.address)
        recorded = await self._comparisons.vote(comparison, choice, why)
        if not recorded.repeated:
            self._metrics.votes.labels(recorded.category, recorded.source, choice).inc()
        return recorded

    async def take_back(self, comparison_id: str, token: str, visitor: Visitor) -> None:
        """A vote of the last seconds was a slip: from now on it counts nowhere; on return that is on disk.

        Raises:
            TokenRefused: the comparison is another person's.
            TooLate, LogWriteError: the vote stands.
        """
        comparison = await asking(self._comparisons.find, comparison_id, token, visitor.person)
        if not visitor.speaks_for(comparison.annotator, str(comparison.identity)):
            raise TokenRefused("This comparison was opened with a key. Send the same key with this.")
        self._rates.check("actions", comparison.annotator, visitor.address)
        await asking(self._comparisons.take_back, comparison)

    async def shown_before(
        self, comparison_id: str, token: str, visitor: Visitor
    ) -> tuple[StoredComparison, ComparisonView]:
        """A comparison once more, to whom it was shown: as it is kept, without personal data.

        Raises:
            UnknownComparison, TokenRefused: it has expired, or was shown to somebody else.
            TooManyRequests, DatabaseUnavailable: not now.
        """
        self._rates.check("actions", visitor.person, visitor.address)
        return await asking(self._comparisons.shown_before, comparison_id, token, visitor.person)

    async def voted(self, comparison_ids: Sequence[str], visitor: Visitor) -> list[tuple[Choice, Recorded]]:
        """This person's votes on these that are on record, and what each revealed; raises DatabaseUnavailable."""
        return await asking(self._comparisons.voted, comparison_ids, visitor.person)
