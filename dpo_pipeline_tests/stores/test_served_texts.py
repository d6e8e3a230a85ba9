"""What was asked and answered is kept for as long as it is said, and no longer."""

from datetime import UTC, date, datetime
from pathlib import Path

from dpo_pipeline.stores.log_reading import days_of
from dpo_pipeline.stores.served_texts import ServedText, ServedTexts, read_texts


def text(number: int, moment: str) -> ServedText:
    return ServedText(
        request_id=f"chatcmpl-{number}", recorded_at=moment, user="ann", version="v1.0", prompt="Why?",
        answer=f"Because of {number}.", source="api",
    )  # fmt: skip


def test_a_file_a_day_and_a_torn_line_costs_itself_alone(tmp_path: Path) -> None:
    texts = ServedTexts(tmp_path, 100_000)
    for number, day in enumerate(("2026-01-05", "2026-01-05", "2026-01-06")):
        texts.append(text(number, f"{day}T10:00:00.000Z"))
    texts.close()
    assert [path.name for path in days_of(tmp_path)] == ["2026-01-05.jsonl", "2026-01-06.jsonl"]
    with days_of(tmp_path)[0].open("ab") as file:
        file.write(b'{"request_id": "chatcmpl-9", "recor')
    assert [each.answer for each in read_texts(tmp_path)] == ["Because of 0.", "Because of 1.", "Because of 2."]


def test_a_day_goes_when_its_time_is_over(tmp_path: Path) -> None:
    texts = ServedTexts(tmp_path, 100_000)
    for number, day in enumerate(("2026-01-01", "2026-01-02", "2026-01-03")):
        texts.append(text(number, f"{day}T10:00:00.000Z"))
    texts.close()
    kept = ServedTexts(tmp_path, 100_000)
    kept._keep_days = 2
    kept.expire(date(2026, 1, 4))
    kept.close()
    assert [path.stem for path in days_of(tmp_path)] == ["2026-01-02", "2026-01-03"]


def test_none_are_kept_where_none_shall_be(tmp_path: Path) -> None:
    kept = ServedTexts(tmp_path, 90)
    kept.append(text(1, datetime.now(UTC).isoformat()))
    kept.close()
    assert kept.keeps and len(list(read_texts(tmp_path))) == 1
    none = ServedTexts(tmp_path, 0)
    none.close()
    assert not none.keeps and days_of(tmp_path) == []
