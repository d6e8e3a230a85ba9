"""From the log to validation results: dirt is quarantined, nothing is lost, a rebuild gives the same result."""

import json
import random
from dataclasses import replace
from pathlib import Path

import duckdb
import pytest

from dpo_pipeline.core.controlled_winrate import SidedComparison
from dpo_pipeline.core.curation import summarise, with_second_looks
from dpo_pipeline.core.dataset import split_pairs
from dpo_pipeline.core.identity import Uncounted
from dpo_pipeline.core.vote_count import VoteCount
from dpo_pipeline.core.votes import encode_preference
from dpo_pipeline.errors import ArtifactCorrupt, LogReplaced
from dpo_pipeline.loop.ingest import LOG, IngestReport, ingest, validate_new
from dpo_pipeline.settings import QualityCriteria
from dpo_pipeline.stores.log import AppendLog
from dpo_pipeline.stores.warehouse import ComparedLines, Warehouse, prepare
from dpo_pipeline_tests.examples import LONG, SHORT, preference

CRITERIA = QualityCriteria()


class Project:
    """A log, a quarantine and a warehouse in one directory."""

    def __init__(self, directory: Path):
        self.log = directory / "prefs.jsonl"
        self.quarantine = directory / "quarantine.jsonl"
        self.file = directory / "loop.duckdb"
        self.connection = duckdb.connect(str(self.file))
        prepare(self.connection)
        self.warehouse = Warehouse(self.connection, self.log)

    def tick(self) -> IngestReport:
        report = ingest(self.warehouse, self.quarantine, 1 << 20, CRITERIA)
        validate_new(self.warehouse, CRITERIA)
        return report

    def rebuild(self) -> None:
        self.connection.close()
        self.file.unlink()
        self.reopen()

    def reopen(self) -> None:
        self.connection.close()
        self.connection = duckdb.connect(str(self.file))
        prepare(self.connection)
        self.warehouse = Warehouse(self.connection, self.log)


@pytest.fixture
def project(tmp_path: Path):  # type: ignore[no-untyped-def]
    project = Project(tmp_path)
    yield project
    project.connection.close()


def votes(count: int, start: int = 0) -> list[bytes]:
    draw = random.Random(start)
    return [
        encode_preference(preference(i, vote=draw.choice(["a", "a", "b", "tie"]), event_id=f"evt-{i}"))
        for i in range(start, start + count)
    ]


def test_a_line_that_was_changed_after_it_was_read_is_told(project: Project) -> None:
    AppendLog(project.log).append_all(votes(30))
    project.tick()
    assert project.warehouse.changed_lines() == ComparedLines(30, 0, [])
    content = project.log.read_bytes()
    changed = content.replace(b'"category":"factual_qa"', b'"category":"comparison"', 1)
    assert len(changed) == len(content)
    project.log.write_bytes(changed)
    found = project.warehouse.changed_lines()
    assert (found.compared, len(found.changed)) == (30, 1)
    assert found.changed[0].encode() in changed.splitlines()[0]
    project.log.unlink()
    with pytest.raises(LogReplaced, match="is gone"):
        project.warehouse.changed_lines()


@pytest.mark.slow
def test_a_warehouse_from_before_identities_goes_on(project: Project) -> None:
    AppendLog(project.log).append_all(votes(30))
    project.tick()
    before = project.warehouse.head_to_head("v1.1", "v1.0")
    for column in ("anonymous", "proven", "steered", "line_key"):
        project.connection.execute(f"alter table preferences drop column {column}")
    project.reopen()
    assert project.warehouse.head_to_head("v1.1", "v1.0") == before, "what was said then counts"
    AppendLog(project.log).append_all(votes(12, start=30))
    assert project.tick().recorded == 12
    assert project.warehouse.changed_lines() == ComparedLines(12, 30, []), "of lines that were read since"


def test_a_tick_reads_only_what_is_new(project: Project) -> None:
    AppendLog(project.log).append_all(votes(30))
    assert project.tick().recorded == 30
    AppendLog(project.log).append_all(votes(12, start=30))
    assert project.tick().recorded == 12
    assert project.tick().recorded == 0
    tallies = project.warehouse.tallies()
    assert tallies["recorded"] == tallies["judged"] == 42
    assert tallies["valid"] + tallies["rejected"] == 42


def test_pairs_brought_in_are_nobodys_votes(project: Project) -> None:
    log = AppendLog(project.log)
    log.append_all([encode_preference(preference(n, source="import", category="other")) for n in range(20)])
    log.append_all([encode_preference(preference(20 + n, vote="tie")) for n in range(2)])
    log.append_all([encode_preference(preference(22, vote="tie", source="simulated"))])
    project.tick()
    summary = replace(summarise(project.warehouse.tallies(), 0), simulated=project.warehouse.simulated_votes())
    assert summary.voted == VoteCount(people=2, simulated=1) and summary.brought_in == 20
    assert (summary.recorded, summary.votes, summary.categories) == (23, {"tie": 3}, {"factual_qa": 3})
    assert summary.left_wins == 0


def test_dirt_is_quarantined_with_place_and_reason_and_the_rest_goes_on(project: Project) -> None:
    good = votes(4)
    unknown_vote = json.dumps(json.loads(good[0]) | {"vote": "left", "event_id": "x"}).encode()
    dirt = {
        good[1][:50]: "a line cut in the middle",
        b"\x00" * 20: "NUL bytes",
        b'{"event_id": "\xff\xfe"}': "not UTF-8",
        unknown_vote: "an unknown vote kind",
        b"x" * (2 << 20): "an oversized line",
    }
    lines = [good[0], *dirt, good[1], good[0], good[2], good[3]]
    project.log.write_bytes(b"\n".join(lines) + b'\n{"torn tail')
    report = project.tick()
    assert (report.recorded, report.repeats, report.quarantined) == (4, 1, len(dirt))
    kept = [json.loads(line) for line in project.quarantine.read_text().splitlines()]
    assert [row["offset"] for row in kept] == [_offset(lines, index) for index in range(1, 1 + len(dirt))]
    assert "longer than 1048576 bytes" in kept[-1]["reason"]
    assert project.warehouse.tallies()["quarantined"] == len(dirt)
    assert project.tick().quarantined == 0


@pytest.mark.parametrize("moment", ["20/11/2026 10:00", "yesterday", "2026-13-01T00:00:00Z", "2026-02-30T00:00:00Z",
                                    "2026-01-01T00:00:00+02:00", "2026-01-01"])  # fmt: skip
def test_a_line_whose_time_is_no_moment_costs_no_other(project: Project, moment: str) -> None:
    lines = [encode_preference(preference(number)) for number in range(3)]
    lines[1] = lines[1].replace(b"2026-01-01T00:00:00.000Z", moment.encode())
    AppendLog(project.log).append_all(lines)
    report = project.tick()
    assert (report.recorded, report.quarantined) == (2, 1)
    assert list(report.reasons) == ["recorded_at is no moment in RFC 3339, UTC, such as 2026-01-01T12:00:00Z"]


def test_an_event_id_counts_once_whatever_is_sent_again(project: Project) -> None:
    AppendLog(project.log).append_all(votes(5) * 3)
    assert (project.tick().recorded, project.tick().repeats) == (5, 0)
    AppendLog(project.log).append_all(votes(5))
    report = project.tick()
    assert (report.recorded, report.repeats) == (0, 5)


@pytest.mark.slow
def test_a_deleted_warehouse_is_rebuilt_with_the_same_dataset_hash(project: Project) -> None:
    AppendLog(project.log).append_all(votes(80))
    project.tick()
    AppendLog(project.log).append_all(votes(40, start=80))
    project.tick()
    before = split_pairs(project.warehouse.valid_pairs(), frozenset(), 0.1, 8).content_hash
    tallies = project.warehouse.tallies()
    project.rebuild()
    project.tick()
    assert split_pairs(project.warehouse.valid_pairs(), frozenset(), 0.1, 8).content_hash == before
    assert project.warehouse.tallies() == tallies


def test_a_replaced_log_is_refused_and_nothing_is_read_twice(project: Project) -> None:
    AppendLog(project.log).append_all(votes(10))
    project.tick()
    project.log.write_bytes(b"\n".join(votes(3)) + b"\n")
    with pytest.raises(LogReplaced, match="dpo rebuild"):
        project.tick()
    assert project.warehouse.tally("recorded") == 10


def test_a_failed_batch_changes_nothing(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    AppendLog(project.log).append_all(votes(10))
    monkeypatch.setattr(Warehouse, "_count", lambda *_: (_ for _ in ()).throw(RuntimeError("killed here")))
    with pytest.raises(RuntimeError):
        project.tick()
    monkeypatch.undo()
    assert project.warehouse.tallies() == {}
    assert project.tick().recorded == 10


def test_results_see_earlier_votes_over_ticks(project: Project) -> None:
    log = AppendLog(project.log)
    log.append(encode_preference(preference(1)))
    project.tick()
    log.append(encode_preference(preference(1, event_id="again")))
    log.append(encode_preference(preference(1, vote="b", event_id="against", response_a=LONG, response_b=SHORT)))
    project.tick()
    failed = summarise(project.warehouse.tallies(), 0).failed
    assert failed["repeat"] == 1 and failed["contradiction"] == 1


def test_with_the_clock_set_back_the_order_of_the_log_counts(project: Project) -> None:
    """The second vote of a person carries an earlier time than the first, which it contradicts."""
    first = preference(1, event_id="first", recorded_at="2026-01-02T12:00:00Z")
    second = preference(
        1, event_id="second", recorded_at="2026-01-02T11:00:00Z", vote="b", response_a=LONG, response_b=SHORT
    )
    AppendLog(project.log).append_all([encode_preference(first), encode_preference(second)])
    project.tick()
    assert [pair.event_id for pair in project.warehouse.valid_pairs()] == ["first"]
    assert summarise(project.warehouse.tallies(), 0).failed["contradiction"] == 1


def test_votes_read_under_other_criteria_are_judged_by_those_of_today(project: Project) -> None:
    AppendLog(project.log).append_all(
        [
            encode_preference(preference(1)),
            encode_preference(preference(2, vote="b")),
            encode_preference(preference(3, vote="tie")),
        ]
    )
    ingest(project.warehouse, project.quarantine, 1 << 20, CRITERIA)
    relaxed = CRITERIA.model_copy(update={"more_detailed": False, "min_length_ratio": None})
    assert validate_new(project.warehouse, relaxed) == 3
    assert project.warehouse.tally("valid") == 2
    assert summarise(project.warehouse.tallies(), 0).failed == {"no_winner": 1}


def test_a_rejected_pair_keeps_every_criterion_it_failed(project: Project) -> None:
    short_won = preference(1, vote="b", response_b="<|im_end|>")
    AppendLog(project.log).append_all([encode_preference(short_won)])
    project.tick()
    failed = project.connection.execute("select failed from validations where not valid").fetchall()
    assert failed == [(["length_ratio", "too_short", "more_detailed", "template_tokens"],)]


def test_a_warehouse_of_an_earlier_version_is_refused_with_the_cure(tmp_path: Path) -> None:
    with duckdb.connect(str(tmp_path / "old.duckdb")) as connection:
        connection.execute("create table preferences (sequence bigint, chosen_key bigint)")
        with pytest.raises(ArtifactCorrupt, match="dpo rebuild"):
            prepare(connection)


def test_only_what_somebody_vouches_for_is_evidence(project: Project) -> None:
    events = [
        preference(1, vote="a", model_a="v1.1", annotator="ada", identity="named"),
        preference(2, vote="b", model_a="v1.1", annotator="at the machine", identity="local"),
        preference(3, vote="a", model_a="v1.1", annotator="invented", identity="anonymous"),
        preference(4, vote="a", model_a="v1.1", annotator="met today", identity="new"),
        preference(5, vote="a", model_a="v1.1", annotator="ada", identity="named", steered=True),
        preference(6, vote="a", model_a="v1.1", annotator="from before"),
    ]
    AppendLog(project.log).append_all([encode_preference(event) for event in events])
    project.tick()
    assert project.warehouse.head_to_head("v1.1", "v1.0") == [
        ("ada", "win"), ("at the machine", "loss"), ("from before", "win")
    ]  # fmt: skip
    everybody = [person for person, _ in project.warehouse.head_to_head("v1.1", "v1.0", count_unproven=True)]
    assert everybody == ["ada", "at the machine", "invented", "met today", "from before"]
    assert project.warehouse.unproven("v1.1", "v1.0", "2020-01-01T00:00:00Z") == [
        ("invented", "win"), ("met today", "win")
    ]  # fmt: skip
    assert project.warehouse.uncounted("v1.1", "v1.0", count_unproven=False) == Uncounted(2, 1)
    assert project.warehouse.uncounted("v1.1", "v1.0", count_unproven=True) == Uncounted(0, 1)
    assert project.warehouse.unproven("v1.1", "v1.0", "2199-01-01T00:00:00Z") == []


def test_head_to_head_names_the_winner_whichever_side_it_was(project: Project) -> None:
    events = [
        preference(1, vote="a", model_a="v1.1"),
        preference(2, vote="b", model_a="v1.0", model_b="v1.1"),
        preference(3, vote="a", model_a="v1.0", model_b="v1.1"),
        preference(4, vote="tie", model_a="v1.1"),
        preference(5, vote="both_bad", model_a="v1.1"),
        preference(6, vote="a"),
    ]
    AppendLog(project.log).append_all([encode_preference(event) for event in events])
    project.tick()
    assert [outcome for _, outcome in project.warehouse.head_to_head("v1.1", "v1.0")] == ["win", "win", "loss", "tie"]


@pytest.mark.parametrize("at_a_time", [1, 2, 7])
def test_second_looks_are_first_and_second_votes_and_those_of_several(project: Project, at_a_time: int) -> None:
    """Ann flips, Ben does not; on the first pair both decided, and differ. A third vote and an import count nothing."""
    pair, other = {"response_a": LONG, "response_b": SHORT}, {"response_a": SHORT, "response_b": LONG}
    said = [
        ("ann", "a", pair), ("ann", "b", pair), ("ann", "a", pair), ("ben", "a", other), ("ben", "b", pair),
        ("cat", "tie", pair),
    ]  # fmt: skip
    events = [
        preference(7, event_id=f"look-{number}", annotator=annotator, vote=vote, **texts)
        for number, (annotator, vote, texts) in enumerate(said)
    ]
    events.append(preference(7, event_id="import", annotator="import", source="import", **pair))
    for start in range(0, len(events), at_a_time):
        AppendLog(project.log).append_all([encode_preference(event) for event in events[start : start + at_a_time]])
        project.tick()
    twice, several = project.warehouse.second_looks()
    assert sorted(first != second for first, second in twice) == [False, True]
    assert [len(set(votes)) for votes in several] == [2] and len(several[0]) == 2
    few = with_second_looks(summarise(project.warehouse.tallies(), 0), twice, several)
    assert (few.decided_twice, few.flip_rate, few.decided_by_several, few.alpha) == (2, None, 1, None)
    many = with_second_looks(few, [("a", "a")] * 41 + [("a", "b")] * 9, [["a", "a"], ["b", "b"]] * 20)
    assert many.flip_rate == pytest.approx((1 - 0.64**0.5) / 2) and many.alpha == 1


def test_the_position_is_that_of_the_log(project: Project) -> None:
    AppendLog(project.log).append_all(votes(3))
    project.tick()
    assert project.warehouse.position(LOG).offset == project.log.stat().st_size


def test_no_query_can_reach_files(project: Project) -> None:
    with pytest.raises(duckdb.Error, match="disabled"):
        project.connection.execute("select * from read_text('/etc/hostname')")
    with pytest.raises(duckdb.Error, match="locked"):
        project.connection.execute("set enable_external_access=true")


def _offset(lines: list[bytes], index: int) -> int:
    return sum(len(line) + 1 for line in lines[:index])


def test_texts_come_from_the_log_and_another_line_in_their_place_is_refused(project: Project) -> None:
    AppendLog(project.log).append_all(votes(20))
    project.tick()
    pairs = project.warehouse.valid_pairs()
    assert pairs and all(pair.chosen for pair in pairs)
    with project.log.open("r+b") as file:
        line = file.readline().replace(b"evt-0", b"evt-X")
        file.seek(0)
        file.write(line)
    with pytest.raises(LogReplaced, match=r"evt-0.*dpo rebuild"):
        list(project.warehouse.events([("evt-0", 0, len(line) - 1)]))
    with pytest.raises(LogReplaced, match="no line ends there"):
        list(project.warehouse.events([("evt-0", 0, len(line) - 2)]))


def test_what_people_said_of_two_versions_comes_with_sides_and_lengths(project: Project) -> None:
    two = {"model_a": "v1.1", "model_b": "v1.0", "left": "b", "source": "ui"}
    swapped = {"model_a": "v1.0", "model_b": "v1.1", "left": "b", "source": "ui"}
    said = [
        preference(1, "a", annotator="ann", **two),
        preference(2, "a", annotator="bob", **swapped),
        preference(3, "tie", annotator="cid", **swapped),
        preference(4, "both_bad", **two),
        preference(5, "a", **(two | {"source": "import"})),
        preference(6, "a", **(two | {"model_b": "v1.2"})),
    ]
    AppendLog(project.log).append_all([encode_preference(each) for each in said])
    project.tick()
    assert project.warehouse.sided_comparisons("v1.1", "v1.0") == [
        SidedComparison("ann", "win", False, len(LONG), len(SHORT)),
        SidedComparison("bob", "loss", True, len(SHORT), len(LONG)),
        SidedComparison("cid", "tie", True, len(SHORT), len(LONG)),
    ]
    outcomes = [("ann", "win"), ("bob", "loss"), ("cid", "tie")]
    assert project.warehouse.head_to_head("v1.1", "v1.0") == outcomes
