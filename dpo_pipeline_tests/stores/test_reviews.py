"""Exclusions as events: strict reading, the newest holds, and the warehouse follows, whatever was rebuilt."""

from collections.abc import Iterator
from pathlib import Path

import duckdb
import msgspec
import pytest

from dpo_pipeline.core.curation import TakenOut, summarise, without_withdrawn
from dpo_pipeline.core.identity import Uncounted
from dpo_pipeline.core.validated_pair import WITHDRAWN
from dpo_pipeline.core.votes import encode_preference
from dpo_pipeline.errors import ArtifactCorrupt, InvalidRecord
from dpo_pipeline.loop.ingest import ingest, validate_new
from dpo_pipeline.settings import QualityCriteria
from dpo_pipeline.stores.log import AppendLog
from dpo_pipeline.stores.reviews import Review, ReviewLog, apply_reviews, read_validated_pairs
from dpo_pipeline.stores.warehouse import Warehouse, prepare
from dpo_pipeline_tests.examples import LONG, SHORT, preference


def review(number: int, event_id: str, action: str, reason: str = "spam") -> Review:
    fields = {"review_id": f"rev-{number}", "recorded_at": "2026-01-02T00:00:00Z", "event_id": event_id}
    return msgspec.convert({**fields, "action": action, "reason": reason, "actor": "admin"}, Review)


class Project:
    """A log of four votes (three valid ones), judged, and the log of reviews."""

    def __init__(self, directory: Path):
        self.directory = directory
        self.prefs, self.table = directory / "prefs.jsonl", directory / "review.jsonl"
        self.reviews = ReviewLog(directory / "reviews.jsonl")
        events = [preference(number, category="creative" if number else "factual_qa") for number in range(3)]
        messages = [{"role": "user", "content": "Capital?"}, {"role": "assistant", "content": "Of what?"}]
        events.append(preference(3, prompt=messages, response_a=SHORT, response_b=LONG))
        AppendLog(self.prefs).append_all([encode_preference(event) for event in events])
        self.connection = duckdb.connect(str(directory / "loop.duckdb"))
        self.curate()

    def curate(self) -> TakenOut:
        prepare(self.connection) if not self._prepared() else None
        store = Warehouse(self.connection, self.prefs)
        ingest(store, self.directory / "quarantine.jsonl", 1 << 20, QualityCriteria())
        validate_new(store, QualityCriteria())
        return apply_reviews(store, self.reviews.path, self.table)

    def rebuild(self) -> None:
        self.connection.close()
        (self.directory / "loop.duckdb").unlink()
        self.connection = duckdb.connect(str(self.directory / "loop.duckdb"))

    def valid(self) -> list[str]:
        return [pair.event_id for pair in Warehouse(self.connection, self.prefs).valid_pairs()]

    def _prepared(self) -> bool:
        return bool(self.connection.execute("select 1 from duckdb_tables() where table_name = 'tallies'").fetchall())


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    made = Project(tmp_path)
    yield made
    made.connection.close()


def test_without_reviews_the_newest_judged_pairs_are_published(project: Project) -> None:
    pairs = list(read_validated_pairs(project.table))
    assert [pair.event_id for pair in pairs] == ["evt-3", "evt-2", "evt-1", "evt-0"]
    assert pairs[0].prompt == "user: Capital?\n\nassistant: Of what?"
    assert not pairs[0].valid and "more_detailed" in pairs[0].failed
    assert all(pair.valid for pair in pairs[1:])
    assert project.valid() == ["evt-0", "evt-1", "evt-2"]


def test_an_excluded_pair_leaves_the_datasets_and_a_restored_one_comes_back(project: Project) -> None:
    project.reviews.append(review(1, "evt-1", "exclude", "names a person"))
    project.reviews.append(review(2, "evt-3", "exclude"))
    assert project.curate() == TakenOut({"excluded": {"creative": 1}}, (2,)), "evt-3 was not valid anyway"
    assert project.valid() == ["evt-0", "evt-2"]
    pairs = {pair.event_id: pair for pair in read_validated_pairs(project.table)}
    assert (pairs["evt-1"].failed, pairs["evt-1"].reason) == (("excluded",), "names a person")
    assert pairs["evt-3"].failed[-1] == "excluded" and len(pairs["evt-3"].failed) > 1

    project.reviews.append(review(3, "evt-1", "restore", "my mistake"))
    assert project.curate() == TakenOut()
    assert project.valid() == ["evt-0", "evt-1", "evt-2"]
    pairs = {pair.event_id: pair for pair in read_validated_pairs(project.table)}
    assert pairs["evt-1"].valid and pairs["evt-1"].reason == ""


def test_a_vote_that_was_taken_back_counts_nowhere_and_stays_so(project: Project) -> None:
    events = [
        preference(number, vote="b", model_b="v1.1", annotator=who, response_a=SHORT, response_b=LONG, left="b")
        for number, who in ((4, "ann"), (5, "ben"))
    ]
    events += [
        preference(number, vote=vote, model_b="v1.1", prompt=events[0].prompt, annotator="ann")
        for number, vote in ((6, "b"), (7, "tie"))
    ]
    AppendLog(project.prefs).append_all([encode_preference(event) for event in events])
    project.curate()
    store = Warehouse(project.connection, project.prefs)
    before, [(one, other)] = summarise(store.tallies(), 0), store.second_looks()[0]
    assert one != other and len(store.head_to_head("v1.1", "v1.0")) == 4
    for number, event in enumerate(("evt-4", "evt-7")):
        project.reviews.append(review(10 + number, event, "withdraw", "a slip"))
    project.reviews.append(review(12, "evt-4", "restore", "but why"))
    project.reviews.append(review(13, "evt-4", "set_aside", "v1.1 was rolled back"))
    assert project.curate().categories["withdrawn"] == {"factual_qa": 1}, "a tie is not valid anyway"
    assert "evt-4" not in project.valid() and "evt-5" in project.valid()
    [shown] = [pair for pair in read_validated_pairs(project.table) if pair.event_id == "evt-4"]
    assert shown.failed == (WITHDRAWN,) and shown.reason == "a slip"
    assert [person for person, _ in store.head_to_head("v1.1", "v1.0")] == ["ben", "ann"]
    assert store.uncounted("v1.1", "v1.0", False) == Uncounted(withdrawn=2, for_new=1)
    assert store.second_looks()[0] == [] and len(store.sided_comparisons("v1.1", "v1.0")) == 2
    assert store.battles(20) == [("v1.0", "v1.1", 0, 2, 0, 0)]
    after = without_withdrawn(summarise(store.tallies(), 0), store.withdrawn_votes())
    assert (after.withdrawn, after.brought_in, after.voted.total) == (2, before.brought_in, before.voted.total - 2)
    assert after.votes["b"] == before.votes["b"] - 1 and after.votes["tie"] == 0
    assert after.left_wins == before.left_wins - 1


def test_positions_of_valid_pairs_do_not_move(project: Project) -> None:
    """Versions note how far they have seen; an exclusion must not make the next one skip a pair."""
    project.reviews.append(review(1, "evt-0", "exclude"))
    project.curate()
    pairs = Warehouse(project.connection, project.prefs).valid_pairs(after=1)
    assert [pair.event_id for pair in pairs] == ["evt-1", "evt-2"]


def test_a_rebuilt_warehouse_comes_to_the_same_result(project: Project) -> None:
    project.reviews.append(review(1, "evt-1", "exclude"))
    counts, before, pairs = project.curate(), project.valid(), list(read_validated_pairs(project.table))
    project.rebuild()
    assert project.curate() == counts
    assert (project.valid(), list(read_validated_pairs(project.table))) == (before, pairs)


def test_the_newest_event_of_a_preference_holds(tmp_path: Path) -> None:
    log = ReviewLog(tmp_path / "reviews.jsonl")
    assert log.newest() == {}
    for number, (event, action) in enumerate([("a", "exclude"), ("b", "exclude"), ("a", "restore")]):
        log.append(review(number, event, action))
    assert {event: found.action for event, found in log.newest().items()} == {"a": "restore", "b": "exclude"}


@pytest.mark.parametrize(
    "line",
    [
        b"not json",
        b'{"review_id":"r"}',
        msgspec.json.encode(review(1, "e", "exclude")).replace(b"exclude", b"delete"),
        msgspec.json.encode(review(1, "e", "exclude")).replace(b'"spam"', b'""'),
        msgspec.json.encode(review(1, "e", "exclude")).replace(b'"reason"', b'"extra":1,"reason"'),
        b"\xff",
    ],
)
def test_a_line_that_is_no_review_stops_everything_and_says_where(tmp_path: Path, line: bytes) -> None:
    """Skipped, it might be the exclusion of a pair that is then trained on."""
    log = ReviewLog(tmp_path / "reviews.jsonl")
    log.append(review(1, "e", "exclude"))
    offset = log.path.stat().st_size
    AppendLog(log.path).append(line)
    with pytest.raises(InvalidRecord, match=f"byte {offset}: not a review"):
        log.newest()


def test_a_table_that_is_none_says_what_to_do(tmp_path: Path) -> None:
    assert list(read_validated_pairs(tmp_path / "missing.jsonl")) == []
    (tmp_path / "review.jsonl").write_text("nonsense")
    with pytest.raises(ArtifactCorrupt, match=r"line 1: .* `ingest_and_validate`"):
        list(read_validated_pairs(tmp_path / "review.jsonl"))
