"""When training is due, and what it waits for otherwise."""

from dataclasses import replace

import pytest

from dpo_pipeline.core.cadence import TrainingState, current_phase, objective_of, training_due, unseen_feedback
from dpo_pipeline.settings import Cadence, DpoRecipe
from dpo_pipeline_tests.examples import version_record

READY = TrainingState(
    unused=100,
    fresh=100,
    accepted_versions=0,
    newest_was_given_up=False,
    training_now=False,
    rollout_of=None,
    hours_since_training=None,
)


def test_due_at_the_threshold_and_not_one_before() -> None:
    assert training_due(READY, Cadence(), DpoRecipe()).due
    waiting = training_due(replace(READY, unused=87), Cadence(), DpoRecipe())
    assert not waiting.due
    assert waiting.reason.startswith("collect 13 more valid preferences")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"training_now": True}, "being trained"),
        ({"rollout_of": "v1.1"}, "v1.1 is being rolled out"),
        ({"newest_was_given_up": True, "fresh": 20}, "collect 80 more"),
    ],
)
def test_what_it_waits_for(change: dict[str, object], told: str) -> None:
    decision = training_due(replace(READY, **change), Cadence(), DpoRecipe())
    assert not decision.due and told in decision.reason


def test_what_comes_from_feedback_is_told_apart() -> None:
    waiting = training_due(replace(READY, unused=87, from_feedback=57), Cadence(), DpoRecipe())
    assert "(87 of 100, 57 of them from feedback)" in waiting.reason and waiting.from_feedback == 57


def test_the_cooldown_holds_training_back() -> None:
    slow = Cadence(cooldown_h=24)
    assert not training_due(replace(READY, hours_since_training=1.0), slow, DpoRecipe()).due
    assert training_due(replace(READY, hours_since_training=25.0), slow, DpoRecipe()).due


@pytest.mark.parametrize(
    ("accepted", "name", "threshold"),
    [(0, "startup", 100), (2, "startup", 100), (3, "growth", 200), (8, "mature", 300)],
)
def test_phases_follow_the_accepted_versions(accepted: int, name: str, threshold: int) -> None:
    found, phase = current_phase(accepted, Cadence())
    assert (found, phase.min_samples) == (name, threshold)


def test_a_phase_can_be_set() -> None:
    assert current_phase(0, Cadence(phase="mature"))[0] == "mature"


def test_feedback_counts_once_and_each_kind_by_who_learned_from_it() -> None:
    seen = [version_record("v1.1", feedback_pairs=10, labelled=400), version_record("v1.2", feedback_pairs=15)]
    assert unseen_feedback([], 20, 403, 4) == (20, 100)
    assert unseen_feedback(seen, 20, 440, 4) == (5, 10), "v1.2 learned from pairs alone, v1.1 from both"
    assert unseen_feedback(seen, 12, 300, 4) == (0, 0), "people may ask to be forgotten"


@pytest.mark.parametrize(
    ("pairs", "labels", "found"),
    [(30, 100, "kto"), (30, 69, "dpo"), (49, 51, "kto"), (50, 400, "dpo"), (100, 0, "dpo"), (0, 100, "kto")],
)
def test_labels_decide_only_where_pairs_are_few_and_labels_are_enough(pairs: int, labels: int, found: str) -> None:
    assert objective_of(DpoRecipe(), Cadence(), pairs, labels, 100) == found
    assert objective_of(DpoRecipe(), Cadence(labels_may_decide=False), pairs, labels, 100) == "dpo"
    assert objective_of(DpoRecipe(trainer="llamafactory"), Cadence(), pairs, labels, 100) == "dpo", "TRL alone has both"
    assert objective_of(DpoRecipe(objective="kto"), Cadence(), pairs, labels, 100) == "kto"


def test_a_version_that_labels_make_due_says_so() -> None:
    said = replace(READY, unused=30, fresh=30, from_feedback=5, labels=100, fresh_labels=100)
    decision = training_due(said, Cadence(), DpoRecipe())
    assert (decision.due, decision.unused, decision.from_feedback, decision.objective) == (True, 130, 105, "kto")
    assert decision.reason.startswith("130 unused valid preferences, most of them from labels, so by the objective kto")
    waiting = training_due(replace(said, labels=10), Cadence(), DpoRecipe())
    assert (waiting.due, waiting.unused, waiting.objective) == (False, 30, "dpo")
