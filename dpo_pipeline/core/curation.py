"""The collection in counts: what was recorded, what of it is valid, and how far votes can be trusted."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from dpo_pipeline.core.agreement import flip_rate, krippendorff_alpha
from dpo_pipeline.core.validated_pair import SET_ASIDE
from dpo_pipeline.core.vote_count import VoteCount
from dpo_pipeline.core.votes import Vote

MIN_SECOND_LOOKS = 30


@dataclass(frozen=True)
class TakenOut:
    """Valid pairs that are not trained on all the same: how many as what (`validated_pair.TAKEN_OUT`) in each category;
    `places` are positions among the valid pairs, in the order of the log and counted from 1.
    """

    categories: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    places: tuple[int, ...] = ()


@dataclass(frozen=True)
class WithdrawnVote:
    """A vote that its voter took back."""

    vote: Vote
    category: str
    for_left: bool


@dataclass(frozen=True)
class CurationSummary:
    """Counts as of the newest curation run. `failed` counts rejected pairs by criterion; one pair may fail several.
    `votes`, `left_wins` and `categories` are of people's votes, without pairs that were brought in or made and without
    votes that were `withdrawn`; so many of them were `simulated`.

    `taken_out` are the places of `TakenOut`; `suspects` are versions whose rollback has been dealt with.

    `rebuilt` is when somebody last had the warehouse built again; empty: never.

    `flip_rate`, with the lower end of its interval, is over `decided_twice` pairs that one person decided twice,
    `alpha` (Krippendorff's) over `decided_by_several` that several did; null: too few to say.
    """

    log_offset: int = 0
    reviews_bytes: int = 0
    recorded: int = 0
    simulated: int = 0
    withdrawn: int = 0
    quarantined: int = 0
    repeated_events: int = 0
    valid: int = 0
    rejected: int = 0
    left_wins: int = 0
    votes: dict[str, int] = field(default_factory=dict)
    categories: dict[str, int] = field(default_factory=dict)
    valid_categories: dict[str, int] = field(default_factory=dict)
    failed: dict[str, int] = field(default_factory=dict)
    rebuilt: str = ""
    taken_out: Sequence[int] = ()
    suspects: Sequence[str] = ()
    decided_twice: int = 0
    flip_rate: float | None = None
    flip_rate_low: float | None = None
    decided_by_several: int = 0
    alpha: float | None = None

    @property
    def set_aside(self) -> int:
        """Valid pairs that wait for a person to look at them, after a rollback."""
        return self.failed.get(SET_ASIDE, 0)

    @property
    def voted(self) -> VoteCount:
        return VoteCount(sum(self.votes.values()) - self.simulated, self.simulated)

    @property
    def brought_in(self) -> int:
        """Pairs that nobody voted on here: imported, or made by the loop itself."""
        return self.recorded - self.voted.total - self.withdrawn

    def valid_beyond(self, place: int) -> int:
        """Valid pairs behind a place among them, such as that up to which a version has seen them."""
        return max(self.valid + len(self.taken_out) - place, 0) - sum(taken > place for taken in self.taken_out)


def with_second_looks(
    summary: CurationSummary, twice: Sequence[tuple[Vote, Vote]], several: Sequence[Sequence[str]]
) -> CurationSummary:
    """The summary with how often votes flip, and how far people agree, where `MIN_SECOND_LOOKS` were had."""
    flips, agreed = flip_rate(twice), krippendorff_alpha(several, replicates=0)
    return replace(
        summary,
        decided_twice=flips.decided_twice,
        flip_rate=flips.rate if flips.decided_twice >= MIN_SECOND_LOOKS else None,
        flip_rate_low=flips.low if flips.decided_twice >= MIN_SECOND_LOOKS else None,
        decided_by_several=agreed.units,
        alpha=agreed.alpha if agreed.units >= MIN_SECOND_LOOKS else None,
    )


def summarise(tallies: dict[str, int], log_offset: int, reviews_bytes: int = 0, rebuilt: str = "") -> CurationSummary:
    """The running counts of the warehouse, by kind, and how far both logs were read."""

    def group(prefix: str) -> dict[str, int]:
        return {name.removeprefix(prefix): count for name, count in tallies.items() if name.startswith(prefix)}

    return CurationSummary(
        log_offset=log_offset,
        reviews_bytes=reviews_bytes,
        rebuilt=rebuilt,
        recorded=tallies.get("recorded", 0),
        quarantined=tallies.get("quarantined", 0),
        repeated_events=tallies.get("repeated_events", 0),
        valid=tallies.get("valid", 0),
        rejected=tallies.get("rejected", 0),
        left_wins=tallies.get("left_wins", 0),
        votes=group("vote:"),
        categories=group("category:"),
        valid_categories=group("valid_category:"),
        failed=group("failed:"),
    )


def without_taken_out(summary: CurationSummary, taken_out: TakenOut) -> CurationSummary:
    """The summary after valid pairs were taken out: those are rejected, as what they were taken out as."""
    gone = sum(map(Counter, taken_out.categories.values()), Counter[str]())
    if not gone:
        return summary
    failed = {name: sum(found.values()) for name, found in taken_out.categories.items()}
    return replace(
        summary,
        valid=summary.valid - gone.total(),
        rejected=summary.rejected + gone.total(),
        valid_categories={name: n - gone[name] for name, n in summary.valid_categories.items()},
        failed={**summary.failed, **failed},
        taken_out=taken_out.places,
    )


def without_withdrawn(summary: CurationSummary, withdrawn: Sequence[WithdrawnVote]) -> CurationSummary:
    """The summary after people took votes back: those are counted as `withdrawn`, and nowhere else."""
    votes, categories = Counter(each.vote for each in withdrawn), Counter(each.category for each in withdrawn)
    return replace(
        summary,
        withdrawn=len(withdrawn),
        votes={name: count - votes[name] for name, count in summary.votes.items()},  # type: ignore[index]
        categories={name: count - categories[name] for name, count in summary.categories.items()},
        left_wins=summary.left_wins - sum(each.for_left for each in withdrawn),
    )
