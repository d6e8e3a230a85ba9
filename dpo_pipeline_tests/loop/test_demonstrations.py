"""What an SFT round is tuned on: corrections and the answers people chose last, of no question that is held out."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dpo_pipeline.core.votes import prompt_key
from dpo_pipeline.loop.demonstrations import demonstration_rows, usable_corrections
from dpo_pipeline.stores.serving_log import CorrectionRecord, ServingLog

HELD_OUT = "Why is the sky blue?"


def said(text: str, role: str = "assistant") -> list[dict[str, str]]:
    return [{"role": role, "content": text}]


@pytest.fixture
def serving_log(tmp_path: Path) -> Path:
    """Three corrections: of a question, of a held-out one, and of a conversation that ends with the held-out one."""
    log = ServingLog(tmp_path / "serving")
    conversation = [*said("Hello.", "user"), *said("Hello!"), *said(HELD_OUT, "user")]
    for number, prompt in enumerate(["How do I boil an egg?", HELD_OUT, conversation]):
        log.append(
            CorrectionRecord(
                event_id=f"c{number}", recorded_at="2026-01-05T10:00:00.000Z", request_id=f"q{number}", user="ann",
                version="v1.0", prompt=prompt, correction=f"Right answer {number}.",
            )
        )  # fmt: skip
    log.close()
    return tmp_path / "serving"


def test_corrections_and_the_newest_chosen_answers_but_nothing_held_out(serving_log: Path, tmp_path: Path) -> None:
    pairs = [("What is tea?", "Old."), ("What is tea?", "Newer."), ("What is ice?", "Frozen water.")]
    rows = [{"prompt": said(question, "user"), "chosen": said(answer)} for question, answer in pairs]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "train.parquet")
    found = demonstration_rows(serving_log, tmp_path, frozenset({prompt_key(HELD_OUT)}))
    assert [(row["prompt"][-1]["content"], row["completion"][0]["content"]) for row in found] == [
        ("How do I boil an egg?", "Right answer 0."), ("What is tea?", "Newer."), ("What is ice?", "Frozen water."),
    ]  # fmt: skip


def test_without_a_log_there_are_none(tmp_path: Path) -> None:
    assert usable_corrections(tmp_path / "none", frozenset()) == []
