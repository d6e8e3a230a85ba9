"""The judged preferences as pages show them: what curation published, and people's orders since then."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from dpo_pipeline.core.judged import JudgedPair, Wanted
from dpo_pipeline.settings import Settings
from dpo_pipeline.stores.reviews import Review, ReviewLog, read_judged

PAGE = 10


@dataclass(frozen=True)
class Seen:
    """`in_effect`: curation knows the newest order about this pair."""

    pair: JudgedPair
    in_effect: bool


@dataclass(frozen=True)
class Listed:
    """Page `number`, counted from 0, of the pairs that fit; `versions` are those of all that were collected."""

    rows: tuple[Seen, ...]
    number: int
    fits: int
    collected: int
    versions: tuple[str, ...]

    @property
    def pages(self) -> int:
        return max(-(-self.fits // PAGE), 1)


def collected(settings: Settings) -> Iterator[Seen]:
    """Newest first, one at a time: a server that holds thousands of them grows with the votes.

    Raises:
        ArtifactCorrupt, InvalidRecord: a file is not what it should be, and what to do.
    """
    reviews = ReviewLog(settings.reviews_log).newest()
    return (_seen(pair, reviews.get(pair.event_id)) for pair in read_judged(settings.review_table))


def find(pairs: Iterable[Seen], event_id: str | None) -> Seen | None:
    return next((seen for seen in pairs if seen.pair.event_id == event_id), None)


def page_of(pairs: Iterable[Seen], wanted: Wanted, number: int) -> Listed:
    """One page of what fits, in the same order; a number beyond the first or last page is that of the nearest."""
    number, fits, count = max(number, 0), 0, 0
    rows: list[Seen] = []
    versions: set[str] = set()
    for seen in pairs:
        count += 1
        versions |= {seen.pair.model_a, seen.pair.model_b}
        if not wanted.fits(seen.pair):
            continue
        if fits // PAGE <= number:
            rows = [*rows, seen] if fits % PAGE else [seen]
        fits += 1
    return Listed(tuple(rows), min(number, max(fits - 1, 0) // PAGE), fits, count, tuple(sorted(versions)))


def _seen(pair: JudgedPair, review: Review | None) -> Seen:
    now = pair.reviewed(review.action, review.reason) if review else pair.reviewed("restore", "")
    return Seen(now, in_effect=now.excluded == pair.excluded)
