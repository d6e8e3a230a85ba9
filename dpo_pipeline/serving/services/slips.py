"""Votes that were given a moment ago: whoever gave one may say that it was a slip, for a few seconds."""

import time
import uuid
from collections import OrderedDict

from dpo_pipeline.request_errors import TooLate
from dpo_pipeline.stores.ledger import utc_now
from dpo_pipeline.stores.reviews import Review, ReviewLog

SLIP_S = 10
"""So long a voter can say that it was a slip."""
ON_ITS_WAY_S = 2
"""A press in the last of these seconds may come later than that."""
VOTER = "voter"
"""Who takes a vote back: the vote says whose it is."""


class Slips:
    """
    Args:
        reviews: where it is said that a vote was a slip.
    """

    def __init__(self, reviews: ReviewLog):
        self._reviews = reviews
        self._given: OrderedDict[str, float] = OrderedDict()

    def note(self, event_id: str) -> None:
        """The vote was given now; those that can be taken back no more are forgotten."""
        now = time.monotonic()
        while self._given and now - next(iter(self._given.values())) > SLIP_S + ON_ITS_WAY_S:
            self._given.popitem(last=False)
        self._given[event_id] = now

    def withdrawn(self) -> set[str]:
        """Event ids of the votes that were taken back."""
        return self._reviews.withdrawn()

    def withdraw(self, event_id: str) -> bool:
        """Put on disk that it was a slip; false: that is on record already.

        Raises:
            TooLate: it was given longer ago than `SLIP_S`, or to another server, or not at all.
            LogWriteError: nothing was recorded.
        """
        if event_id in self.withdrawn():
            return False
        given = self._given.get(event_id)
        if given is None or time.monotonic() - given > SLIP_S + ON_ITS_WAY_S:
            raise TooLate(
                f"A vote can be taken back within {SLIP_S} seconds. This one stands; a reviewer can exclude the pair."
            )
        self._reviews.append(
            Review(
                review_id=f"rev-{uuid.uuid4().hex}",
                recorded_at=utc_now(),
                event_id=event_id,
                action="withdraw",
                reason=f"a slip, by the voter within {SLIP_S} seconds",
                actor=VOTER,
            )
        )
        return True
