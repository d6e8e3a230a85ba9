"""Which of several samples stands beside the first."""

from dpo_pipeline.core.candidates import best_partner
from dpo_pipeline.settings import QualityCriteria

CRITERIA = QualityCriteria()
FIRST = "It is Paris, the capital of France."
LONGER = "Paris is it. The city lies on the Seine and has been the seat of kings for centuries."
OTHER = "France is governed from Paris, a city of two million."


def test_a_pair_that_could_be_trained_on_comes_first() -> None:
    assert best_partner(FIRST, [FIRST, OTHER, LONGER], CRITERIA) == 2


def test_of_equally_good_ones_the_earliest() -> None:
    assert best_partner(FIRST, [LONGER, LONGER.replace("kings", "queens")], CRITERIA) == 0
    free = QualityCriteria(more_detailed=False)
    assert best_partner(FIRST, [FIRST, OTHER, LONGER], free) == 1, "either may win"


def test_where_no_vote_makes_a_pair_at_least_another_text() -> None:
    assert best_partner(FIRST, [FIRST, f" {FIRST}", FIRST.replace("It is", "It's")], CRITERIA) == 2


def test_where_all_are_the_same_the_first_of_them() -> None:
    assert best_partner(FIRST, [FIRST, FIRST], CRITERIA) == 0
