"""What the warehouse says of votes: of two versions, of pairs decided again, of a week; texts stay in the log."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import duckdb
import pytest

from dpo_pipeline.core.controlled_winrate import SidedComparison
from dpo_pipeline.core.curation import TakenOut, summarise, with_second_looks
from dpo_pipeline.core.identity import Uncounted
from dpo_pipeline.core.vote_count import VoteCount
from dpo_pipeline.core.votes import encode_preference
from dpo_pipeline.errors import ArtifactCorrupt, LogReplaced
from dpo_pipeline.stores.log import AppendLog
from dpo_pipeline.stores.warehouse import ComparedLines, prepare
from dpo_pipeline_tests.examples import LONG, SHORT, preference
from dpo_pipeline_tests.ingested import Project, opened_project, votes


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    with opened_project(tmp_path) as project:
        yield project


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


def test_no_query_can_reach_files(project: Project) -> None:
    with pytest.raises(duckdb.Error, match="disabled"):
        project.connection.execute("select * from read_text('/etc/hostname')")
    with pytest.raises(duckdb.Error, match="locked"):
        project.connection.execute("set enable_external_access=true")


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


def test_a_week_counts_peoples_votes_that_stand(project: Project) -> None:
    moments = ("2026-01-04T23:59:59.999Z", "2026-01-05T00:00:00.000Z", "2026-01-11T23:59:59.999Z")
    events = [preference(number, recorded_at=moment) for number, moment in enumerate(moments)]
    events += [
        preference(3, vote="tie", recorded_at=moments[1], category="creative"),
        preference(4, recorded_at=moments[1], source="import"),
        preference(5, "b", recorded_at=moments[1]),  # the shorter one: fails some criteria
    ]
    AppendLog(project.log).append_all([encode_preference(event) for event in events])
    project.tick()
    week = project.warehouse.week(moments[1], "2026-01-12T00:00:00.000Z")
    assert week.categories == {"factual_qa": 3, "creative": 1} and week.votes == {"a": 2, "b": 1, "tie": 1}
    assert week.failed and week.failed > 0
    assert project.warehouse.week("2027-01-01T00:00:00.000Z", "2028-01-01T00:00:00.000Z").failed is None
    assert project.warehouse.first_vote() == moments[0] and project.warehouse.first_vote("2027") is None


def test_places_are_those_among_the_valid_pairs(project: Project) -> None:
    """The datasets of versions are pinned by them: a rejected pair in between takes none, one taken out keeps its."""
    said = ["a", "b", "a", "a"]
    events = [preference(number, vote) for number, vote in enumerate(said)]  # type: ignore[arg-type]
    AppendLog(project.log).append_all([encode_preference(event) for event in events])
    project.tick()
    assert [pair.event_id for pair in project.warehouse.valid_pairs(1)] == ["evt-2", "evt-3"]
    assert project.warehouse.valid_places_without({"evt-0", "evt-3"}) == [1]
    project.connection.execute("insert into exclusions values (2, 'harm', 'set_aside')")
    assert [pair.event_id for pair in project.warehouse.valid_pairs(1)] == ["evt-3"]
    assert project.warehouse.set_aside_between(0, 1) == 0 and project.warehouse.set_aside_between(1, 3) == 1
    assert project.warehouse.taken_out() == TakenOut({"set_aside": {"factual_qa": 1}}, (2,))
