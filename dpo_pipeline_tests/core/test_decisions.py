"""Small decisions: what to ask, what a version is called, what its card says, collection health."""

import json
from dataclasses import replace

import pytest
import yaml

from dpo_pipeline.core import collection_checks as checks
from dpo_pipeline.core.questions import CATEGORIES, is_held_out, least_covered, parse_question, split_bank, spread
from dpo_pipeline.core.version_card import CardFacts, model_card, summary, tags
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
    evaluation = {
        "verdict": "improved", "reasons": ["win rate 70.0%"], "overall": {"rate": 0.7}, "words": 18.5,
        "parent_words": 9.0, "by_category": {"creative": {"rate": 0.8}},
    }  # fmt: skip
    facts = CardFacts(
        name="v1.1", parent="v1.0", base_model="embedded", base_sha="cd" * 32, adapter_sha="ef" * 32,
        dataset_hash="ab" * 32, pairs=97, recipe=RECIPE.model_dump(), evaluation=evaluation,
        trained_at="2026-01-05T10:00:00Z", words=18.5, satisfaction=4.2, deployed_at="2026-01-09T10:00:00Z",
        history=("2026-01-09: promote at canary",),
    )  # fmt: skip
    text = summary(facts)
    for told in ("**v1.0**", "97 preference pairs", "abababababab", "improved", "win rate 70.0%", "beta 0.1",
                 "train_version", "promote at canary"):  # fmt: skip
        assert told in text
    own = tags(facts)
    assert {"type", "base_model", "training_date", "training_data", "user_satisfaction", "avg_response_length",
            "improvement", "deployment_date"} <= set(own)  # fmt: skip
    assert (own["improvement"], own["avg_response_length"]) == ("win rate 70.0% over v1.0", "18.5 words")
    card = model_card(facts)
    assert yaml.safe_load(card.split("---")[1]) == {
        "base_model": "embedded", "library_name": "peft", "pipeline_tag": "text-generation",
        "tags": ["lora", "dpo", "trl", "peft"],
    }  # fmt: skip
    assert "| creative | 80.0% |" in card
    first = replace(facts, name="v1.0", parent=None, evaluation=None, pairs=None, words=9.0, demonstrations=741)
    assert "SFT baseline" in summary(first) and "improvement" not in tags(first)
    assert tags(first)["training_data"] == "tuned on 741 demonstrations of the question bank"
    assert tags(first)["avg_response_length"] == "9.0 words"


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
    assert checks.category_coverage(even | {"other": 1000}).passed, "imported pairs stand in none of the five"
    assert checks.position_bias(52, 100).passed
    assert not checks.position_bias(700, 1000).passed
    assert not checks.rejected_share(90, 100, {"similarity": 3, "more_detailed": 80}).passed
    assert "more_detailed" in checks.rejected_share(90, 100, {"similarity": 3, "more_detailed": 80}).reason
    assert not checks.repeated_votes(10, 100).passed
    assert (checks.rejected_share(90, 100, {}).value, checks.rejected_share(90, 100, {}).limit) == (0.9, "at most 0.8")
    assert checks.category_coverage(even).limit == "at least 0.05"


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
    assert not finding.passed and finding.value is None and finding.limit
