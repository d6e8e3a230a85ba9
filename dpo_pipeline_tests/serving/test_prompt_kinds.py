"""What production asked is drawn by what a vote on it tells, where the settings say so, and the vote says how often."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from dpo_pipeline.core.matchmaking import PairTally
from dpo_pipeline.core.questions import AskedQuestion, QuestionFilter
from dpo_pipeline.core.votes import decode_preference, encode_preference
from dpo_pipeline.serving.services.prompt_kinds import PromptKinds
from dpo_pipeline.serving.services.questions import Questions, Voted
from dpo_pipeline.serving.services.tally import Tally
from dpo_pipeline.stores.log import AppendLog
from dpo_pipeline.stores.serving_state import ServingState, StoredRequest
from dpo_pipeline_tests.examples import preference, settings_in
from dpo_pipeline_tests.programs_under_test import eventually

FOODS, TRAINS = (
    [
        f"How long does {food} take to {done}?"
        for food in ("rice", "pasta", "an egg", "a pie")
        for done in ("cook", "boil")
    ],
    [
        f"Which train goes from {a} to {b}?"
        for a in ("Paris", "Rome", "Bern", "Graz")
        for b in ("Berlin", "Oslo", "Madrid")
    ],
)
KNOWN = dict.fromkeys(TRAINS, PairTally(50, 25.0))


@pytest.fixture
def state(tmp_path: Path) -> Iterator[ServingState]:
    state = ServingState(tmp_path / "state.db")
    for number, question in enumerate([*FOODS, *TRAINS]):
        request = StoredRequest(request_id=f"chat-{number}", user="ada", version="v1.0", prompt=question)
        state.add_request(request, time.time())
    eventually(state.newest_prompts, lambda found: len(found) == len(FOODS) + len(TRAINS))
    yield state
    state.close()


def drawn(
    tmp_path: Path, state: ServingState, share: float, voted: Voted, may_choose: bool = True
) -> list[AskedQuestion]:
    settings = settings_in(tmp_path)
    collection = settings.collection.model_copy(update={"worth_share": share, "holdout_share": 1e-9})
    questions = Questions(collection, settings.bank_dir, state, lambda: voted)
    wish = QuestionFilter("production")
    questions.draw(wish, {})  # kinds are looked for in a thread
    eventually(lambda: questions._kinds._found, bool)
    questions._may_choose = lambda: may_choose
    return [questions.draw(wish, {}) for _ in range(400)]


def test_what_is_known_least_comes_more_often_and_says_how_much(tmp_path: Path, state: ServingState) -> None:
    found = drawn(tmp_path, state, 0.8, KNOWN)
    foods = [each for each in found if each.question in FOODS]
    assert len(foods) > 0.6 * len(found), "of eight among twenty"
    assert min(each.ratio for each in foods) > 1 > max(each.ratio for each in found if each.question in TRAINS)
    assert sum(1 / each.ratio for each in found) / len(found) == pytest.approx(1, abs=0.3)


def test_while_a_version_is_judged_all_are_drawn_evenly(tmp_path: Path, state: ServingState) -> None:
    """Otherwise the test between two versions would be made on what is rarely asked."""
    assert {each.ratio for each in drawn(tmp_path, state, 0.8, KNOWN, may_choose=False)} == {1.0}


def test_by_default_all_are_drawn_evenly(tmp_path: Path, state: ServingState) -> None:
    assert settings_in(tmp_path).collection.worth_share == 0
    settings = settings_in(tmp_path)
    questions = Questions(settings.collection, settings.bank_dir, state, lambda: KNOWN)
    found = [questions.draw(QuestionFilter("production"), {}) for _ in range(50)]
    assert {each.ratio for each in found} == {1.0} and not questions._kinds._found


def test_what_nobody_has_grouped_yet_is_a_kind_of_its_own() -> None:
    kinds = PromptKinds()
    kinds._found, kinds._looked = dict.fromkeys(TRAINS, 0), time.monotonic()
    *known, new = kinds.ratios([*TRAINS, "Why?"], KNOWN, 0.8)
    assert new > 5 > 1 > max(known)


def test_votes_are_counted_by_question_where_that_is_wanted(tmp_path: Path) -> None:
    settings, question = settings_in(tmp_path), "Why do cats purr?"
    votes = [
        preference(0, "a", prompt=question, model_a="v1.0", model_b="v1.1"),
        preference(1, "b", prompt=question, model_a="v1.0", model_b="v1.1", prompt_ratio=2.5),
        preference(2, "tie", prompt=question, model_a="v1.1", model_b="v1.0"),
        preference(3, "a", prompt=question, model_a="v1.1", model_b="v1.1"),
        preference(4, "both_bad", prompt=question),
    ]
    AppendLog(settings.prefs_log).append_all([encode_preference(event) for event in votes])
    found = [decode_preference(line) for line in settings.prefs_log.read_bytes().splitlines()]
    assert found == votes and b"prompt_ratio" not in settings.prefs_log.read_bytes().splitlines()[0]
    assert [each.likelihood for each in found[:2]] == [1.0, 2.5]
    for on_prompts, counted in ((True, {question: PairTally(4, 2.0)}), (False, {})):
        tally = Tally(settings.prefs_log, 1 << 20, 20, settings.zone, on_prompts).refresh()
        assert tally.on_prompts() == counted
