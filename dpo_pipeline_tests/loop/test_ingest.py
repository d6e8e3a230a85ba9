"""From the log to validation results: dirt is quarantined, nothing is lost, a rebuild gives the same result."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from dpo_pipeline.core.curation import summarise
from dpo_pipeline.core.dataset import split_pairs
from dpo_pipeline.core.votes import encode_preference
from dpo_pipeline.errors import LogReplaced
from dpo_pipeline.loop.ingest import LOG, ingest, validate_new
from dpo_pipeline.stores.log import AppendLog
from dpo_pipeline.stores.warehouse import ComparedLines, Warehouse
from dpo_pipeline_tests.examples import LONG, SHORT, preference
from dpo_pipeline_tests.ingested import CRITERIA, Project, opened_project, votes


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    with opened_project(tmp_path) as project:
        yield project


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


def test_a_tick_reads_only_what_is_new(project: Project) -> None:
    AppendLog(project.log).append_all(votes(30))
    assert project.tick().recorded == 30
    AppendLog(project.log).append_all(votes(12, start=30))
    assert project.tick().recorded == 12
    assert project.tick().recorded == 0
    tallies = project.warehouse.tallies()
    assert tallies["recorded"] == tallies["judged"] == 42
    assert tallies["valid"] + tallies["rejected"] == 42


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


def test_the_position_is_that_of_the_log(project: Project) -> None:
    AppendLog(project.log).append_all(votes(3))
    project.tick()
    assert project.warehouse.position(LOG).offset == project.log.stat().st_size


def _offset(lines: list[bytes], index: int) -> int:
    return sum(len(line) + 1 for line in lines[:index])
