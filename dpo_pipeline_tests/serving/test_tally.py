"""What the pages count: people's votes, and of one person only so many on the same two versions."""

from datetime import date
from pathlib import Path
from zoneinfo import ZoneInfo

from dpo_pipeline.core.votes import encode_preference
from dpo_pipeline.serving.services.tally import Tally
from dpo_pipeline.stores.log import AppendLog
from dpo_pipeline_tests.examples import preference

LIMIT = 1 << 20


def test_one_person_with_a_hundred_votes_does_not_move_the_leaderboard(tmp_path: Path) -> None:
    flood = [preference(number, event_id=f"evt-{number}", annotator="flood", vote="b") for number in range(100)]
    others = [preference(number, event_id=f"evt-o{number}", annotator=f"p{number}", vote="a") for number in range(30)]
    AppendLog(tmp_path / "prefs.jsonl").append_all([encode_preference(event) for event in [*flood, *others]])
    tally = Tally(tmp_path / "prefs.jsonl", LIMIT, votes_per_person=20, zone=ZoneInfo("UTC")).refresh()
    won = {winner: count for (_, _, winner), count in tally.battles.items()}
    assert won == {"model_b": 20, "model_a": 30}
    assert sum(tally.by_day.values()) == 130, "all of them were collected"


def test_imported_pairs_are_nobodys_votes(tmp_path: Path) -> None:
    events = [
        preference(number, event_id=f"evt-{number}", source=source) for number, source in enumerate(("import", "ui"))
    ]
    AppendLog(tmp_path / "prefs.jsonl").append_all([encode_preference(event) for event in events])
    tally = Tally(tmp_path / "prefs.jsonl", LIMIT, votes_per_person=20, zone=ZoneInfo("UTC")).refresh()
    assert sum(tally.by_day.values()) == sum(tally.by_category.values()) == 1


def test_a_vote_belongs_to_the_day_that_people_write(tmp_path: Path) -> None:
    late = preference(recorded_at="2026-03-01T22:30:00.000Z")
    AppendLog(tmp_path / "prefs.jsonl").append_all([encode_preference(late)])
    tally = Tally(tmp_path / "prefs.jsonl", LIMIT, votes_per_person=20, zone=ZoneInfo("Europe/Helsinki")).refresh()
    assert tally.by_day == {date(2026, 3, 2): 1}
