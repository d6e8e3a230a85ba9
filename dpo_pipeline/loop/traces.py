"""What a trace finds, as values."""

from dataclasses import dataclass
from pathlib import Path

from dpo_pipeline.core.serving_records import FeedbackRecord, RequestRecord
from dpo_pipeline.core.votes import Preference
from dpo_pipeline.stores.ledger import DecisionRecord, VersionRecord


@dataclass(frozen=True)
class UsedIn:
    """A dataset that holds a vote or feedback: `part` is train, eval or labelled; `versions` were trained on it, and it
    was built for `waiting`.
    """

    content_hash: str
    directory: Path
    part: str
    versions: tuple[str, ...]
    waiting: tuple[str, ...] = ()


@dataclass(frozen=True)
class VoteTrace:
    """Where a vote went. `judged`: versions whose A/B test it is part of. `kpis`: of the reports of its week. Where it
    was `withdrawn` it is part of none.
    """

    event: Preference
    datasets: tuple[UsedIn, ...]
    descendants: tuple[str, ...]
    judged: tuple[str, ...]
    decisions: tuple[DecisionRecord, ...]
    kpis: tuple[str, ...]
    withdrawn: bool = False


@dataclass(frozen=True)
class VersionTrace:
    """Where a version came from: its line of parents, what it was trained on by source, and of how many people."""

    record: VersionRecord
    ancestors: tuple[str, ...]
    events: tuple[str, ...]
    people: int
    sources: dict[str, int]
    decisions: tuple[DecisionRecord, ...]


@dataclass(frozen=True)
class RequestTrace:
    """A chat request, what people said of its answer, and the datasets that hold some of that.

    `request` is null where its line was lost: it is written a moment later than answered, feedback at once. `becomes`
    says of each event what it is for the next dataset, or why it is nothing.
    """

    request_id: str
    request: RequestRecord | None
    said: tuple[FeedbackRecord, ...]
    datasets: tuple[UsedIn, ...]
    becomes: dict[str, str]


@dataclass(frozen=True)
class PersonTrace:
    """What a person gave, by any of their pseudonyms; `datasets` hold some of it."""

    pseudonyms: tuple[str, ...]
    votes: dict[str, int]
    requests: int
    feedback: dict[str, int]
    datasets: tuple[UsedIn, ...]
    descendants: tuple[str, ...]
