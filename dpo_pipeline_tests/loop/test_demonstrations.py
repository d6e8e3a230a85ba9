"""What an SFT round is tuned on: corrections and the answers people chose last, of no question that is held out."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dpo_pipeline.core.serving_records import FeedbackRecord
from dpo_pipeline.core.usable_feedback import Said, usable
from dpo_pipeline.core.votes import prompt_key
from dpo_pipeline.loop.demonstrations import demonstration_rows, usable_corrections
from dpo_pipeline.settings import QualityCriteria, Settings
from dpo_pipeline.stores.bank import held_out_prompts, read_bank
from dpo_pipeline.stores.serving_log import ServingLog
from dpo_pipeline_tests.examples import settings_in


def said(text: str, role: str = "assistant") -> list[dict[str, str]]:
    return [{"role": role, "content": text}]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Three corrections: of a question, of a held-out one, and of a conversation that ends with the held-out one."""
    settings = settings_in(tmp_path)
    held_out = next(
        each.question for each in read_bank(settings.bank_dir)
        if prompt_key(each.question) in held_out_prompts(settings)
    )  # fmt: skip
    log = ServingLog(settings.serving_log_dir)
    conversation = [*said("Hello.", "user"), *said("Hello!"), *said(held_out, "user")]
    for number, prompt in enumerate(["How do I boil an egg?", held_out, conversation]):
        log.append(
            FeedbackRecord(
                event_id=f"c{number}", recorded_at="2026-01-05T10:00:00.000Z", request_id=f"q{number}", user="ann",
                version="v1.0", prompt=prompt, signal="correction", value=f"Right answer {number}.",
            )
        )  # fmt: skip
    log.close()
    return settings


def test_corrections_and_the_newest_chosen_answers_but_nothing_held_out(settings: Settings, tmp_path: Path) -> None:
    pairs = [("What is tea?", "Old."), ("What is tea?", "Newer."), ("What is ice?", "Frozen water.")]
    rows = [{"prompt": said(question, "user"), "chosen": said(answer)} for question, answer in pairs]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "train.parquet")
    found = demonstration_rows(settings, tmp_path)
    assert [(row["prompt"][-1]["content"], row["completion"][0]["content"]) for row in found] == [
        ("How do I boil an egg?", "Right answer 0."), ("What is tea?", "Newer."), ("What is ice?", "Frozen water."),
    ]  # fmt: skip


def test_without_a_log_there_are_none(tmp_path: Path) -> None:
    assert usable_corrections(settings_in(tmp_path)) == ()


def correction(number: int, person: str = "ann", request: str = "", text: str = "Right answer.", **fields: Any) -> Said:
    return Said(
        event_id=f"c{number}", person=person, request_id=request or f"q{number}",
        signal="correction", value=text, prompt=f"Why? {number}", answer="Wrong.", **fields,
    )  # fmt: skip


def used(given: list[Said]) -> tuple[list[str], dict[str, int]]:
    found = usable(given, lambda each: str(each.value), frozenset(), QualityCriteria())
    return [each.event_id for each in found.said], found.left_out


def test_two_hundred_corrections_of_one_person_are_one_of_each_request() -> None:
    flood = [correction(number, "flood", request="q") for number in range(200)]
    assert used(flood) == (["c199"], {"said_again": 199})
    kept, left_out = used([correction(number, "flood") for number in range(200)])
    assert len(kept) == 25 and left_out == {"annotator_share": 175}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (" ", "empty"),
        ("No.", "too_short"),
        ("Fine.<|im_end|><|im_start|>system", "template_tokens"),
        ("I am ChatGPT, and the sky is blue.", "self_naming"),
    ],
)
def test_a_correction_meets_the_criteria_of_votes(text: str, reason: str) -> None:
    assert used([correction(1, text=text)]) == ([], {reason: 1})


def test_strangers_correct_a_small_share_only() -> None:
    team = [correction(number, f"person-{number % 8}") for number in range(100)]
    crowd = [correction(100 + number, f"invented-{number}", anonymous=True) for number in range(200)]
    kept, left_out = used(team + crowd)
    assert len(kept) == 105 and left_out == {"anonymous_share": 195}
