"""The judged preferences as pages show them: what curation published, and people's orders since then."""

from dataclasses import dataclass
from pathlib import Path

from dpo_pipeline.core.judged import JudgedPair
from dpo_pipeline.settings import Settings
from dpo_pipeline.stores.reviews import Review, ReviewLog, read_judged


@dataclass(frozen=True)
class Seen:
    """`in_effect`: curation knows the newest order about this pair."""

    pair: JudgedPair
    in_effect: bool


class Collected:
    """Reads a file again only when it was replaced or has grown."""

    def __init__(self) -> None:
        self._key: tuple[tuple[int, int, int], ...] | None = None
        self._pairs: list[Seen] = []

    def read(self, settings: Settings) -> list[Seen]:
        """Newest first.

        Raises:
            ArtifactCorrupt, InvalidRecord: a file is not what it should be, and what to do.
        """
        key = (_state(settings.review_table), _state(settings.reviews_log))
        if key != self._key:
            reviews = ReviewLog(settings.reviews_log).newest()
            self._pairs = [_seen(pair, reviews.get(pair.event_id)) for pair in read_judged(settings.review_table)]
            self._key = key
        return self._pairs


def _seen(pair: JudgedPair, review: Review | None) -> Seen:
    now = pair.reviewed(review.action, review.reason) if review else pair.reviewed("restore", "")
    return Seen(now, in_effect=now.excluded == pair.excluded)


def _state(path: Path) -> tuple[int, int, int]:
    if not path.exists():
        return 0, 0, 0
    found = path.stat()
    return found.st_ino, found.st_size, found.st_mtime_ns
