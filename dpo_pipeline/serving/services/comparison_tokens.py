"""The token that comes with a comparison: whoever sends it may vote on it, until it expires."""

import time
from datetime import timedelta

from itsdangerous import BadSignature, URLSafeTimedSerializer

from dpo_pipeline.request_errors import TokenRefused
from dpo_pipeline.settings import Collection
from dpo_pipeline.stores.serving_state import ServingState, StoredComparison


def valid_s(collection: Collection) -> float:
    """How long a comparison can be voted on."""
    return collection.token_valid_h * 3600


class ComparisonTokens:
    """
    Args:
        key: signs them.
    """

    def __init__(self, key: bytes, collection: Collection):
        self._signer = URLSafeTimedSerializer(key, salt="comparison")
        self.valid_s = valid_s(collection)

    def issue(self, comparison_id: str) -> str:
        return str(self._signer.dumps(comparison_id))

    def check(self, comparison: StoredComparison, token: str, annotator: str | None) -> float:
        """When it was issued, in seconds since the epoch.

        Args:
            annotator: the pseudonym of whoever sends it, where that is known.

        Raises:
            TokenRefused: it was not issued here, for another comparison or person, or too long ago.
        """
        try:
            bound_to, issued = self._signer.loads(token, return_timestamp=True)
        except (BadSignature, ValueError) as error:
            raise TokenRefused("The token was not issued here. Send the one that came with the comparison.") from error
        # Not by the signer's own limit: it takes a clock that was put back for an expired token.
        if time.time() - issued.timestamp() > self.valid_s:
            raise TokenRefused("The token has expired. Ask for a new comparison.")
        if isinstance(bound_to, list):  # as issued before names of people were left out of it
            bound_to = bound_to[0]
        if bound_to != comparison.comparison_id:
            raise TokenRefused("The token belongs to another comparison. Send the one that came with this one.")
        if annotator is not None and annotator != comparison.annotator:
            raise TokenRefused("The token belongs to another person. Ask for a comparison of your own.")
        return float(issued.timestamp())


def forget_expired(state: ServingState, collection: Collection) -> None:
    """Drop comparisons that can no longer be voted on, and requests whose texts are kept no longer.

    What was answered may be spoken of as long as it is kept, and for as long as a comparison where nothing is.
    """
    now, valid = time.time(), valid_s(collection)
    state.forget_before(now - valid, now - max(valid, timedelta(days=collection.retain_texts_days).total_seconds()))
