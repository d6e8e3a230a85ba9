"""The edge cases beside a bank: read in order, errors with file and line."""

import json
from pathlib import Path

import pytest

from dpo_pipeline.errors import InvalidRecord
from dpo_pipeline.stores.bank import read_edge_cases


def write(directory: Path, name: str, *questions: str) -> None:
    folder = directory / "edge_cases"
    folder.mkdir(exist_ok=True)
    rows = [json.dumps({"question": text, "category": "creative", "why": "for the test"}) for text in questions]
    (folder / name).write_text("\n\n".join(rows) + "\n")


def test_edge_cases_come_by_file_and_line(tmp_path: Path) -> None:
    write(tmp_path, "b.jsonl", "three")
    write(tmp_path, "a.jsonl", "one", "two")
    assert [case.question for case in read_edge_cases(tmp_path)] == ["one", "two", "three"]


def test_a_bank_without_edge_cases_has_none(tmp_path: Path) -> None:
    assert read_edge_cases(tmp_path) == ()


def test_a_repeated_or_broken_line_is_named_with_its_file(tmp_path: Path) -> None:
    write(tmp_path, "a.jsonl", "one", "two")
    write(tmp_path, "b.jsonl", "three", " TWO ")
    with pytest.raises(InvalidRecord, match=r"b\.jsonl:3: the question stands in a\.jsonl:3 already"):
        read_edge_cases(tmp_path)
    (tmp_path / "edge_cases" / "b.jsonl").write_text("{}\n")
    with pytest.raises(InvalidRecord, match=r"b\.jsonl:1: found nothing"):
        read_edge_cases(tmp_path)
