"""Small decisions: which attempt next, is it improved, what to ask, what a version is called, collection health."""

import json
from dataclasses import replace

import pytest

from dpo_pipeline.core import collection_checks as checks
from dpo_pipeline.core.diagnosis import Symptoms, adjust
from dpo_pipeline.core.questions import CATEGORIES, is_held_out, least_covered, parse_question, split_bank, spread
from dpo_pipeline.core.verdict import JudgedAnswer, evaluate
from dpo_pipeline.core.version_card import description
from dpo_pipeline.core.versions import iteration, next_version, served_name
from dpo_pipeline.core.winrate import Outcome
from dpo_pipeline.errors import InvalidRecord, UnknownVersion
from dpo_pipeline.settings import DpoRecipe, Evaluation
from dpo_pipeline.stores.bank import read_bank
from dpo_pipeline_tests.examples import PROJECT_DIR

BANK = read_bank(PROJECT_DIR / "data" / "bank")
RECIPE = DpoRecipe(learning_rate=1e-4, beta=0.1, epochs=1)
HEALTHY = Symptoms(win_rate=0.52, margin=1.0, chosen_shift=-1.0, length_ratio=1.1)


@pytest.mark.parametrize(
    ("symptoms", "changed"),
    [
        (replace(HEALTHY, diverged=True), {"learning_rate": 2.5e-5}),
        (replace(HEALTHY, margin=0.01), {"learning_rate": 2e-4}),
        (replace(HEALTHY, win_rate=0.4, length_ratio=2.0), {"loss_type": ("sigmoid_norm",)}),
        (replace(HEALTHY, chosen_shift=-9.0), {"beta": 0.2}),
        (replace(HEALTHY, win_rate=0.4), {"learning_rate": 5e-5}),
        (HEALTHY, {"epochs": 2}),
    ],
)
def test_one_hyperparameter_is_changed_and_named(symptoms: Symptoms, changed: dict[str, object]) -> None:
    change = adjust(RECIPE, symptoms)
    before, after = RECIPE.model_dump(), change.recipe.model_dump()
    assert {name: after[name] for name in after if after[name] != before[name]} == changed
    assert next(iter(changed)) in change.changed and change.reason


def judged(outcomes: list[Outcome], words: int = 20) -> list[JudgedAnswer]:
    return [
        JudgedAnswer(f"q{i}", CATEGORIES[i % 5], outcome, words, 10, 0.6, 0.5) for i, outcome in enumerate(outcomes)
    ]


def test_improved_needs_the_rate_and_the_interval() -> None:
    assert evaluate(judged(["win"] * 90 + ["loss"] * 38), Evaluation()).improved
    chance = evaluate(judged(["win"] * 6 + ["loss"] * 4), Evaluation())
    assert not chance.improved and "it may be chance" in "; ".join(chance.reasons)
    small = evaluate(judged(["win"] * 5400 + ["loss"] * 4600), Evaluation())
    assert not small.improved and "below the 55%" in "; ".join(small.reasons)


def test_length_drift_and_categories_are_shown() -> None:
    verdict = evaluate(judged(["win"] * 50), Evaluation())
    assert verdict.length_ratio == 2.0 and set(verdict.by_category) == set(CATEGORIES)


def test_nothing_judged_is_an_error() -> None:
    with pytest.raises(ValueError, match="No judged answers"):
        evaluate([], Evaluation())


def test_versions() -> None:
    assert next_version([]) == "v1.0"
    assert next_version(["v1.0", "v1.10", "v1.2"]) == "v1.11"
    assert served_name("chat-v1.1") == served_name("v1.1") == "v1.1"
    for bad in ("v2.0", "v1.01", "latest", "v1.-1"):
        with pytest.raises(UnknownVersion, match=r"v1\.0, v1\.1"):
            iteration(bad)


def test_a_card_says_enough_to_decide() -> None:
    evaluation = {"improved": True, "reasons": ["win rate 70.0%"]}
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
