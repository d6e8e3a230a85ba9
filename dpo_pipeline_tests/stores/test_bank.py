"""The edge cases beside a bank: read in order, errors with file and line; and the questions that gate."""

import json
from pathlib import Path

import pytest

from dpo_pipeline.core.votes import prompt_key
from dpo_pipeline.errors import InvalidRecord, UnreadableImport
from dpo_pipeline.stores.bank import gating_questions, held_out_prompts, read_edge_cases
from dpo_pipeline_tests.examples import settings_in


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


def test_versions_are_judged_on_the_questions_of_files_where_they_are_named(tmp_path: Path) -> None:
    file = tmp_path / "questions.jsonl"
    rows = [{"question": f"What is {n} and {n}?"} for n in range(6)]
    file.write_text("\n".join(map(json.dumps, [*rows, rows[0], {"question": ""}])))
    usual = settings_in(tmp_path)
    settings = settings_in(tmp_path, evaluation={"question_files": [str(file)]})
    assert [each.question for each in gating_questions(settings)] == [row["question"] for row in rows]
    assert len(gating_questions(usual)) > 50
    # Votes on either are no training: what the bank keeps back may gate again tomorrow.
    assert held_out_prompts(settings) == held_out_prompts(usual) | {prompt_key(row["question"]) for row in rows}


def test_too_few_questions_are_an_error_that_names_the_files(tmp_path: Path) -> None:
    file = tmp_path / "questions.jsonl"
    file.write_text('{"question": "Why?"}\n{"question": ""}\n')
    with pytest.raises(UnreadableImport, match=r"questions\.jsonl: 1 questions can be asked .*the prompt is empty"):
        gating_questions(settings_in(tmp_path, evaluation={"question_files": [str(file)]}))
