"""What the pages count: people's votes, and of one person only so many on the same two versions."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from dpo_pipeline.core.vote_count import VoteCount
from dpo_pipeline.core.votes import Preference, Vote, encode_preference
from dpo_pipeline.serving.services.counts import BattleFilter
from dpo_pipeline.serving.services.tally import Tally
from dpo_pipeline.stores.log import AppendLog
from dpo_pipeline.stores.reviews import ReviewLog
from dpo_pipeline_tests.examples import preference, withdrawal

LIMIT = 1 << 20
TODAY = BattleFilter(days=1)


def test_one_person_with_a_hundred_votes_does_not_move_the_leaderboard(tmp_path: Path) -> None:
    flood = [preference(number, event_id=f"evt-{number}", annotator="flood", vote="b") for number in range(100)]
    others = [preference(number, event_id=f"evt-o{number}", annotator=f"p{number}", vote="a") for number in range(30)]
    AppendLog(tmp_path / "prefs.jsonl").append_all([encode_preference(event) for event in [*flood, *others]])
    tally = Tally(tmp_path / "prefs.jsonl", LIMIT, votes_per_person=20, zone=ZoneInfo("UTC")).refresh()
    won = {winner: count for (_, _, winner), count in tally.battles().items()}
    assert won == {"model_b": 20, "model_a": 30}
    assert sum(tally.counts["people"].by_day.values()) == 130, "all of them were collected"


def test_battles_by_category_by_whom_and_of_late(tmp_path: Path) -> None:
    now = datetime.now(UTC)

    def vote(number: int, vote: Vote, days_ago: int, **fields: Any) -> Preference:
        when = (now - timedelta(days=days_ago)).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        return preference(number, vote, recorded_at=when, model_b="v1.1", **fields)

    events = [
        vote(0, "a", 0, category="creative"),
        vote(1, "b", 6, category="creative"),
        vote(2, "tie", 7, source="simulated"),
    ]
    AppendLog(tmp_path / "prefs.jsonl").append_all([encode_preference(event) for event in events])
    tally = Tally(tmp_path / "prefs.jsonl", LIMIT, votes_per_person=20, zone=ZoneInfo("UTC")).refresh()

    def found(**wanted: Any) -> list[str]:
        return sorted(winner for _, _, winner in tally.battles(BattleFilter(**wanted)))

    assert found() == ["model_a", "model_b", "tie"]
    assert found(category="creative") == found(whose="people") == found(days=7) == ["model_a", "model_b"]
    assert found(whose="simulated") == found(category="factual_qa") == found(source="simulated") == ["tie"]
    assert found(source="api") == ["model_a", "model_b"] and found(source="ui") == []
    assert found(source="simulated", whose="people") == []
    assert found(days=1) == ["model_a"] and found(days=1, whose="simulated") == []


def test_imported_pairs_are_nobodys_votes(tmp_path: Path) -> None:
    events = [
        preference(number, event_id=f"evt-{number}", source=source) for number, source in enumerate(("import", "ui"))
    ]
    AppendLog(tmp_path / "prefs.jsonl").append_all([encode_preference(event) for event in events])
    tally = Tally(tmp_path / "prefs.jsonl", LIMIT, votes_per_person=20, zone=ZoneInfo("UTC")).refresh()
    assert sum(tally.counts["people"].by_day.values()) == sum(tally.by_category.values()) == 1


def test_a_vote_belongs_to_the_day_that_people_write(tmp_path: Path) -> None:
    late = preference(recorded_at="2026-03-01T22:30:00.000Z")
    AppendLog(tmp_path / "prefs.jsonl").append_all([encode_preference(late)])
    tally = Tally(tmp_path / "prefs.jsonl", LIMIT, votes_per_person=20, zone=ZoneInfo("Europe/Helsinki")).refresh()
    assert tally.counts["people"].by_day == {date(2026, 3, 2): 1}


def test_simulated_votes_are_counted_apart(tmp_path: Path) -> None:
    now = datetime.now(UTC).isoformat()
    events = [
        preference(number, event_id=f"evt-{number}", source=source, recorded_at=now, category="creative")
        for number, source in enumerate(("simulated", "ui", "api", "simulated", "simulated"))
    ]
    AppendLog(tmp_path / "prefs.jsonl").append_all([encode_preference(event) for event in events])
    tally = Tally(tmp_path / "prefs.jsonl", LIMIT, votes_per_person=20, zone=ZoneInfo("UTC")).refresh()
    assert tally.today == tally.categories["creative"] == VoteCount(people=2, simulated=3)
    assert tally.by_category["creative"] == 5


@pytest.mark.parametrize("read_before", [True, False], ids=["after it was counted", "before it was read"])
def test_a_vote_that_was_taken_back_is_counted_nowhere(tmp_path: Path, read_before: bool) -> None:
    now = datetime.now(UTC).isoformat()
    events = [
        preference(number, event_id=f"evt-{number}", vote=vote, model_b="v1.1", recorded_at=now, annotator="ann")
        for number, vote in enumerate(("a", "b", "tie", "a"))
    ]
    log, reviews = tmp_path / "prefs.jsonl", tmp_path / "reviews.jsonl"

    def tally(path: Path) -> Tally:
        return Tally(path, LIMIT, 3, ZoneInfo("UTC"), on_prompts=True, reviews=reviews)

    counted, without = tally(log), tally(tmp_path / "without.jsonl")
    AppendLog(log).append_all([encode_preference(event) for event in events[:3]])
    counted.refresh() if read_before else None
    ReviewLog(reviews).append(withdrawal("evt-1"))
    counted.refresh()
    AppendLog(log).append(encode_preference(events[3]))
    AppendLog(tmp_path / "without.jsonl").append_all([encode_preference(events[place]) for place in (0, 2, 3)])
    for found in (counted.refresh(), without.refresh()):
        assert found.today.total == 3 and found.battles().total() == 3 and found.battles(TODAY).total() == 3
    assert counted.battles() == without.battles() and counted.styled() == without.styled()
    assert counted.by_category == without.by_category and counted.reweighted() == without.reweighted()
    assert counted.counts["people"].by_person == without.counts["people"].by_person
    told = {prompt: each for prompt, each in counted.on_prompts().items() if each.votes}
    assert told == without.on_prompts()
