"""Where the next question comes from: the shares, what stands in, what is never drawn."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpo_pipeline.core.questions import (
    CATEGORIES,
    AskedQuestion,
    EdgeCase,
    Origin,
    QuestionFilter,
    askable,
    candidates,
    is_held_out,
    may_be_asked_again,
    origin_by_shares,
    parse_edge_case,
    production_questions,
)
from dpo_pipeline.errors import InvalidRecord
from dpo_pipeline.stores.bank import read_bank, read_edge_cases
from dpo_pipeline_tests.examples import PROJECT_DIR

BANK_DIR = PROJECT_DIR / "data" / "bank"
BANK, CASES = read_bank(BANK_DIR), read_edge_cases(BANK_DIR)
POOLS: dict[Origin, tuple[AskedQuestion, ...]] = {
    "bank": tuple(AskedQuestion(f"{name} {i}", name, "bank") for name in CATEGORIES for i in range(3)),
    "production": (AskedQuestion("What now?", "other", "production"),),
    "edge_case": (AskedQuestion("Why?", "explanation", "edge_case"), AskedQuestion("Hi!", "creative", "edge_case")),
}


def texts(origin: Origin, wish: QuestionFilter, **pools: tuple[AskedQuestion, ...]) -> list[str]:
    found = candidates({**POOLS, **pools}, origin, wish, "creative")  # type: ignore[dict-item]
    return [each.question for each in found]


@pytest.mark.parametrize(
    ("draw", "origin"),
    [(0.0, "production"), (0.199, "production"), (0.2, "edge_case"), (0.299, "edge_case"), (0.31, "bank"), (1, "bank")],
)
def test_the_shares_decide_where_the_mix_looks(draw: float, origin: str) -> None:
    assert origin_by_shares(draw, 0.2, 0.1) == origin
    assert origin_by_shares(draw, 0.0, 0.0) == "bank"


def test_the_bank_is_asked_for_the_category_covered_least_unless_another_is_wished_for() -> None:
    assert texts("bank", QuestionFilter("bank")) == ["creative 0", "creative 1", "creative 2"]
    assert texts("bank", QuestionFilter("bank", "comparison")) == ["comparison 0", "comparison 1", "comparison 2"]
    assert texts("bank", QuestionFilter("bank", seen=["creative 0", "creative 2"])) == ["creative 1"]
    assert len(texts("bank", QuestionFilter("bank", seen=[f"creative {i}" for i in range(3)]))) == 3


def test_other_origins_are_not_bound_to_the_category_covered_least() -> None:
    assert texts("edge_case", QuestionFilter("edge_case")) == ["Why?", "Hi!"]
    assert texts("edge_case", QuestionFilter("edge_case", "explanation")) == ["Why?"]
    assert texts("production", QuestionFilter("production")) == ["What now?"]


def test_the_bank_stands_in_for_what_is_not_there() -> None:
    assert texts("production", QuestionFilter("production"), production=()) == texts("bank", QuestionFilter("bank"))
    assert texts("production", QuestionFilter("mix"), production=()) == texts("bank", QuestionFilter("bank"))
    assert texts("edge_case", QuestionFilter("edge_case", "factual_qa")) == [f"factual_qa {i}" for i in range(3)]


def test_a_seen_one_comes_again_only_where_it_was_asked_for_and_is_the_only_one() -> None:
    assert texts("edge_case", QuestionFilter("edge_case", seen=["Hi!"])) == ["Why?"]
    assert texts("production", QuestionFilter("production", seen=["What now?"])) == ["What now?"]
    assert texts("production", QuestionFilter("mix", seen=["What now?"])) == texts("bank", QuestionFilter("bank"))


def test_prompts_of_people_have_the_category_of_the_bank_or_none() -> None:
    known = next(question for question in BANK if not is_held_out(question.question, 0.25))
    found = production_questions(
        {f"  {known.question.upper()}": "ann", "What shall I cook tonight?": "bob"}, BANK, 0.25
    )
    assert [each.category for each in found] == [known.category, "other"]
    assert {each.origin for each in found} == {"production"} and [each.asked_by for each in found] == ["", "bob"]


@given(st.lists(st.text(min_size=1)), st.floats(0.01, 0.99))
def test_what_is_held_out_is_never_drawn(prompts: list[str], share: float) -> None:
    asked = production_questions(dict.fromkeys(prompts, "ann"), (), share) + askable(
        [EdgeCase(prompt, "creative", "for the test") for prompt in prompts], "edge_case", share
    )
    assert not any(is_held_out(each.question, share) for each in asked)


def test_held_out_questions_of_the_bank_do_not_come_back_by_way_of_production() -> None:
    asked = production_questions({question.question: "ann" for question in BANK}, BANK, 0.25)
    assert {each.question for each in asked} == {each.question for each in askable(BANK, "bank", 0.25)}
    assert 0 < len(asked) < len(BANK)


def test_the_edge_cases_are_many_of_every_category_and_new() -> None:
    assert len(CASES) >= 40
    for category in CATEGORIES:
        assert sum(each.category == category for each in askable(CASES, "edge_case", 0.25)) >= 4
    assert not {case.question.casefold() for case in CASES} & {question.question.casefold() for question in BANK}


CASE = {"question": "Why?", "category": "explanation", "why": "very short"}


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("not json", "not JSON"),
        ("[1]", "found a list"),
        (json.dumps(CASE | {"answer": "Because."}), "answer, category, question, why"),
        (json.dumps({"question": "Why?"}), "exactly question, category, why were required"),
        (json.dumps(CASE | {"question": "  "}), "question is '  '"),
        (json.dumps(CASE | {"why": 3}), "why is 3"),
        (json.dumps(CASE | {"category": "other"}), "category 'other'; one of factual_qa"),
    ],
)
def test_a_bad_edge_case_is_named(line: str, told: str) -> None:
    with pytest.raises(InvalidRecord, match=rf"^file:3: .*{told}"):
        parse_edge_case(line, "file:3")


@pytest.mark.parametrize(
    ("prompt", "source", "expected"),
    [
        ("Why?", "api", True),
        (" hi ", "api", False),
        ("a" * 500, "ui", True),
        ("a" * 501, "ui", False),
        ("Why?", "simulated", False),
        ([{"role": "user", "content": "Why?"}], "api", False),
    ],
)
def test_only_a_single_question_of_a_person_is_asked_again(prompt: Any, source: str, expected: bool) -> None:
    assert may_be_asked_again(prompt, source) == expected
