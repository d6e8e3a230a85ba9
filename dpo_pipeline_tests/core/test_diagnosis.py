"""Why a version is not better: the five questions from data, and one change at a time."""

from dataclasses import replace
from typing import Any

import pytest

from dpo_pipeline.core.diagnosis import Symptoms, diagnose, what_to_collect
from dpo_pipeline.core.questions import CATEGORIES
from dpo_pipeline.settings import DpoRecipe

RECIPE = DpoRecipe(learning_rate=1e-4, beta=0.1, epochs=1)
HEALTHY = Symptoms(
    win_rate=0.52,
    margin=1.0,
    chosen_shift=-1.0,
    length_ratio=1.1,
    kl_per_token=0.02,
    pairs=140,
    clear_share=0.8,
    categories=dict.fromkeys(CATEGORIES, 30),
    sft_satisfaction=3.4,
)
LOST = replace(HEALTHY, win_rate=0.4, win_rate_high=0.48)
FLIPPED: dict[str, Any] = {"flip_rate": 0.2, "flip_rate_low": 0.1}
POOR: dict[str, Any] = {"sft_satisfaction": 2.0, "sft_satisfaction_high": 2.3}


@pytest.mark.parametrize(
    ("symptoms", "changed"),
    [
        (replace(HEALTHY, diverged=True), {"learning_rate": 2.5e-5}),
        (replace(HEALTHY, margin=0.01), {"learning_rate": 2e-4}),
        (replace(LOST, length_ratio=2.0), {"loss_type": ("sigmoid_norm",)}),
        (replace(HEALTHY, win_rate=0.55, controlled_high=0.45, length_ratio=2.0), {"loss_type": ("sigmoid_norm",)}),
        (replace(HEALTHY, chosen_shift=-9.0), {"loss_type": ("sigmoid", "sft"), "loss_weights": (1.0, 0.2)}),
        (replace(LOST, kl_per_token=0.9), {"beta": 0.2}),
        (LOST, {"learning_rate": 5e-5}),
        (replace(HEALTHY, **FLIPPED), {"loss_type": ("robust",), "label_smoothing": 0.2}),
        (replace(HEALTHY, **POOR, demonstrations=12), {"sft_rounds": 1}),
        (HEALTHY, {"epochs": 2}),
    ],
)
def test_one_thing_is_changed_and_named(symptoms: Symptoms, changed: dict[str, Any]) -> None:
    diagnosis = diagnose(RECIPE, symptoms)
    before, after = RECIPE.model_dump(), diagnosis.recipe.model_dump()
    assert {name: after[name] for name in after if after[name] != before[name]} == changed
    assert diagnosis.changed and diagnosis.reason and diagnosis.changed in diagnosis.conclusion


@pytest.mark.parametrize("ill", [{"win_rate_high": 0.48, "length_ratio": 2.0}, FLIPPED, {"chosen_shift": -9.0}])
def test_every_remedy_is_a_recipe_that_can_be_trained(ill: dict[str, Any]) -> None:
    weighted = RECIPE.model_copy(update={"loss_type": ("sigmoid", "hinge"), "loss_weights": (1.0, 0.2)})
    DpoRecipe(**diagnose(weighted, replace(HEALTHY, **ill)).recipe.model_dump())


def test_a_policy_that_went_the_wrong_way_is_not_called_still() -> None:
    diagnosis = diagnose(RECIPE, replace(LOST, margin=-1.0))
    assert diagnosis.recipe.learning_rate < RECIPE.learning_rate


def test_what_may_be_chance_is_no_reason_to_turn_back() -> None:
    for unsure in (
        replace(HEALTHY, win_rate=0.49, win_rate_high=0.61),
        replace(HEALTHY, win_rate=0.49, win_rate_high=0.61, length_ratio=2.0, controlled_high=0.52),
        replace(HEALTHY, flip_rate=0.051, flip_rate_low=0.004),
        replace(HEALTHY, sft_satisfaction=2.4, sft_satisfaction_high=2.9, demonstrations=12),
    ):
        assert diagnose(RECIPE, unsure).reason == "a gain too small to be sure of"


def test_a_term_beside_the_sigmoid_loss_stays_when_votes_are_flipped() -> None:
    recipe = RECIPE.model_copy(update={"loss_type": ("sigmoid", "sft"), "loss_weights": (1.0, 1.0)})
    found = diagnose(recipe, replace(HEALTHY, **FLIPPED))
    assert (found.recipe.loss_type, found.recipe.loss_weights) == (("robust", "sft"), (1.0, 1.0))
    assert found.changed == "loss robust + sft for 20% flipped votes"
    other = diagnose(RECIPE.model_copy(update={"loss_type": ("ipo",)}), replace(HEALTHY, **FLIPPED))
    assert (other.recipe.loss_type, other.recipe.loss_weights) == (("robust",), None)


def test_the_same_remedy_is_not_given_twice() -> None:
    fell = replace(HEALTHY, chosen_shift=-9.0)
    second = diagnose(diagnose(RECIPE, fell).recipe, fell)
    assert second.recipe.loss_type == ("sigmoid", "sft") and second.recipe.epochs == 2
    again = replace(HEALTHY, **POOR, demonstrations=12, sft_rounds=1)
    assert diagnose(RECIPE, again).change == "recipe"


def test_five_questions_are_answered_with_their_numbers() -> None:
    answers = diagnose(RECIPE, HEALTHY).answers
    assert [answer.good for answer in answers] == [True] * 5
    ill = replace(
        HEALTHY, clear_share=0.4, pairs=60, categories={**dict.fromkeys(CATEGORIES, 30), "creative": 2}, margin=0.0,
        sft_satisfaction=2.0,
    )  # fmt: skip
    told = diagnose(RECIPE, ill)
    assert [answer.good for answer in told.answers] == [False] * 5
    said = " ".join(str(row["finding"]) for row in told.rows())
    for number in ("40%", "creative", "60 training pairs", "0.1", "0.0001", "2.00 of 5"):
        assert number in said
    unknown = replace(HEALTHY, clear_share=None, pairs=None, categories=None, sft_satisfaction=None)
    assert [answer.good for answer in diagnose(RECIPE, unknown).answers] == [None, None, None, True, None]


def test_pairs_outside_the_five_categories_say_nothing_of_coverage() -> None:
    imported = replace(HEALTHY, categories={"other": 1000})
    assert diagnose(RECIPE, imported).answers[1].good is None
    assert "questions of" not in what_to_collect(diagnose(RECIPE, imported), imported)
    both = replace(HEALTHY, categories={"other": 1000, **dict.fromkeys(CATEGORIES, 20)})
    assert diagnose(RECIPE, both).answers[1].good


def test_what_is_missing_is_what_people_are_asked_for() -> None:
    thin = replace(HEALTHY, pairs=60, categories={**dict.fromkeys(CATEGORIES, 30), "creative": 2})
    wanted = what_to_collect(diagnose(RECIPE, thin), thin)
    assert "creative" in wanted and "40 more valid pairs" in wanted
    assert "champion" in what_to_collect(diagnose(RECIPE, HEALTHY), HEALTHY)


def test_labels_help_out_where_pairs_are_few_and_go_where_pairs_are_enough() -> None:
    small_gain = replace(HEALTHY, pairs=40, labelled=400)
    by_labels = diagnose(DpoRecipe(trainer="llamafactory"), small_gain)
    assert (by_labels.recipe.objective, by_labels.recipe.trainer) == ("kto", "trl")
    assert by_labels.conclusion == "40 pairs are few, and 400 answers were called good or bad: objective dpo → kto"
    assert diagnose(DpoRecipe(), replace(small_gain, labelled=60)).recipe.objective == "dpo"
    assert diagnose(by_labels.recipe, small_gain).recipe.objective == "kto", "not back and forth"
    assert diagnose(by_labels.recipe, replace(small_gain, pairs=140)).changed == "objective kto → dpo"
