"""Small decisions: what to ask, what a version is called, what its card says, collection health."""

import json

import pytest

from dpo_pipeline.core import collection_checks as checks
from dpo_pipeline.core.questions import CATEGORIES, is_held_out, least_covered, parse_question, split_bank, spread
from dpo_pipeline.core.version_card import description
from dpo_pipeline.core.versions import iteration, next_version, served_name
from dpo_pipeline.errors import InvalidRecord, UnknownVersion
from dpo_pipeline.settings import DpoRecipe
from dpo_pipeline.stores.bank import read_bank
from dpo_pipeline_tests.examples import PROJECT_DIR

BANK = read_bank(PROJECT_DIR / "data" / "bank")
RECIPE = DpoRecipe(learning_rate=1e-4, beta=0.1, epochs=1)


def test_versions() -> None:
    assert next_version([]) == "v1.0"
    assert next_version(["v1.0", "v1.10", "v1.2"]) == "v1.11"
    assert served_name("chat-v1.1") == served_name("v1.1") == "v1.1"
    for bad in ("v2.0", "v1.01", "latest", "v1.-1"):
        with pytest.raises(UnknownVersion, match=r"v1\.0, v1\.1"):
            iteration(bad)


def test_a_card_says_enough_to_decide() -> None:
    evaluation = {"verdict": "improved", "reasons": ["win rate 70.0%"]}
    text = description("v1.1", "v1.0", 97, "ab" * 32, evaluation, RECIPE.model_dump())
    for told in ("**v1.0**", "97 preference pairs", "abababababab", "improved", "win rate 70.0%", "beta 0.1"):
        assert told in text


def test_the_bank_is_large_and_covers_every_category() -> None:
    assert len(BANK) >= 300
    for category in CATEGORIES:
        assert sum(question.category == category for question in BANK) >= 60
    assert len({question.question.lower() for question in BANK}) == len(BANK)


def test_every_answer_of_the_bank_is_what_it_claims_to_be() -> None:
    for question in BANK:
        for answer in (*question.terse, *question.detailed, question.reference):
            assert question.facts_in(answer)[0], (question.question, answer)
        for answer in question.wrong:
            assert not question.facts_in(answer)[0], (question.question, answer)
        for answer in question.detailed:
            assert sum(question.facts_in(answer)) >= 3, (question.question, answer)


def test_held_out_questions_stay_held_out() -> None:
    asked, held_out = split_bank(BANK, 0.25)
    assert len(asked) + len(held_out) == len(BANK)
    assert 0.15 < len(held_out) / len(BANK) < 0.35
    assert all(is_held_out("  " + q.question.upper(), 0.25) for q in held_out)
    counted = spread(held_out, 50)
    assert {q.category for q in counted} == set(CATEGORIES) and len(counted) == 50


def test_the_least_covered_category_is_next() -> None:
    assert least_covered({}) == CATEGORIES[0]
    assert least_covered(dict.fromkeys(CATEGORIES, 5) | {"creative": 2}) == "creative"


UNKNOWN_CATEGORY = json.dumps(
    {"question": "q", "category": "weather", "terse": [], "detailed": [], "wrong": [], "reference": "", "facts": []}
)


@pytest.mark.parametrize("line", ["{}", "not json", UNKNOWN_CATEGORY])
def test_a_bad_line_of_the_bank_is_named(line: str) -> None:
    with pytest.raises(InvalidRecord, match="file:3"):
        parse_question(line, "file:3")


def test_collection_checks() -> None:
    even = dict.fromkeys(CATEGORIES, 20)
    assert checks.category_coverage(even).passed
    thin = checks.category_coverage(even | {"creative": 1})
    assert not thin.passed and "creative" in thin.reason
    assert checks.position_bias(52, 100).passed
    assert not checks.position_bias(700, 1000).passed
    assert not checks.rejected_share(90, 100, {"similarity": 3, "more_detailed": 80}).passed
    assert "more_detailed" in checks.rejected_share(90, 100, {"similarity": 3, "more_detailed": 80}).reason
    assert not checks.repeated_votes(10, 100).passed


@pytest.mark.parametrize(
    "finding",
    [
        checks.category_coverage({}),
        checks.repeated_votes(0, 0),
        checks.rejected_share(0, 0, {}),
        checks.position_bias(0, 0),
    ],
)
def test_no_data_is_never_good_news(finding: checks.Finding) -> None:
    assert not finding.passed and finding.value is None
