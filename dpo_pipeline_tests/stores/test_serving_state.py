"""What serving remembers: open comparisons, and what people asked in chats, distinct, newest first, within limits."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from dpo_pipeline.errors import LogWriteError
from dpo_pipeline.request_errors import NicknameTaken
from dpo_pipeline.stores.serving_state import (
    NEWEST_PROMPTS,
    REQUESTS_LOOKED_AT,
    Met,
    Place,
    ServingState,
    StoredComparison,
    StoredRequest,
    forget_person,
    join_people,
    people_of,
)
from dpo_pipeline.stores.serving_state.state import NEWEST_BALLOTS


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return tmp_path / "state.db"


def prompts_after(place: Place, requests: Iterable[tuple[str, bool]]) -> list[str]:
    """What a server finds that starts after these (prompt, it was the only turn) were answered, oldest first."""
    before = ServingState(place)
    for number, (prompt, single) in enumerate(requests):
        turns = prompt if single else [{"role": "user", "content": "Hello"}, {"role": "user", "content": prompt}]
        stored = StoredRequest(request_id=f"r-{number}", user="ann", version="v1.0", prompt=turns)
        before.add_request(stored, float(number))
    before.close()
    state = ServingState(place)
    try:
        found = state.newest_prompts()
        assert set(found.values()) <= {"ann"}
        return list(found)
    finally:
        state.close()


def test_prompts_are_distinct_and_the_newest_come_first(place: Place) -> None:
    asked = ["Why is the sky blue?", "How do bees fly?", "why is  the SKY blue? ", "What is rain?"]
    found = prompts_after(place, [(text, True) for text in asked])
    assert found == ["What is rain?", "why is  the SKY blue?", "How do bees fly?"]


def test_turns_of_conversations_and_what_is_too_short_or_long_are_left_out(place: Place) -> None:
    asked = [("And then?", False), ("Hi", True), ("   a  ", True), ("Hi!", True), ("x" * 500, True), ("x" * 501, True)]
    assert prompts_after(place, asked) == ["x" * 500, "Hi!"]


def test_only_the_newest_are_looked_at(tmp_path: Path) -> None:
    many = [(f"Question {number}", True) for number in range(NEWEST_PROMPTS + 100)]
    found = prompts_after(tmp_path / "many.db", many)
    assert len(found) == NEWEST_PROMPTS and found[0] == "Question 599" and found[-1] == "Question 100"
    drowned = [("An old question", True)] + [("The same question", True)] * REQUESTS_LOOKED_AT
    assert prompts_after(tmp_path / "drowned.db", drowned) == ["The same question"]


def test_what_simulated_people_ask_is_not_asked_of_people(place: Place) -> None:
    state = ServingState(place)
    state.add_request(
        StoredRequest(request_id="r-1", user="bot", version="v1.0", prompt="Why is it dark?", source="simulated"), 1.0
    )
    state.close()
    assert ServingState(place).newest_prompts() == {}


def test_a_comparison_that_the_disk_refuses_is_an_error(tmp_path: Path) -> None:
    """A real refusal: the database may have no more pages than it has."""
    state = ServingState(tmp_path / "state.db")
    with state._engine.connect() as database:
        pages = database.exec_driver_sql("pragma page_count").scalar_one()
        database.exec_driver_sql(f"pragma max_page_count = {pages}")
    with pytest.raises(LogWriteError, match=r"state\.db: database or disk is full.*not kept"):
        state.add_comparison(comparison(response_a="long " * 10_000), 1.0, 0)
    with state._engine.connect() as database:
        database.exec_driver_sql("pragma max_page_count = 100000")
    state.add_comparison(comparison(response_a="long " * 10_000), 1.0, 0)
    assert state.comparison("cmp-1") is not None
    state.close()


def comparison(**fields: Any) -> StoredComparison:
    usual: dict[str, Any] = {
        "comparison_id": "cmp-1", "event_id": "evt-1", "session_id": "", "prompt": "Why?", "category": "other",
        "model_a": "v1.0", "model_b": "v1.1", "response_a": "a", "response_b": "b", "left": "a", "annotator": "ann",
        "source": "api", "temperature": None, "top_p": None, "max_tokens": None, "seed": None, "propensity": 1.0,
    }  # fmt: skip
    return StoredComparison(**{**usual, **fields})


def test_one_address_brings_so_many_people_a_day(place: Place) -> None:
    state, day = ServingState(place), 86_400.0
    assert [state.meet(f"p{n}", "home", 0.0, 2, welcome=True).crowded for n in range(3)] == [False, False, True]  # type: ignore[union-attr]
    assert state.meet("p3", "home", 1.0, 2, welcome=False) is None
    assert state.meet("p4", "elsewhere", 1.0, 2, welcome=False) == Met(1.0, False)
    assert state.meet("p5", "home", 2 * day, 2, welcome=False) == Met(2 * day, False), "another day"
    assert state.meet("p2", "home", 3 * day, 2, welcome=True) == Met(0.0, True)
    assert state.meet("p2", "home", 8 * day, 2, welcome=True) == Met(0.0, False), "for a week"
    for number in range(50):
        state.note(f"chats-{number}", 20 * day)
    assert state.meet("chats-7", "home", 21.5 * day, 2, welcome=True) == Met(20 * day, False), (
        "known since they chatted"
    )
    assert state.meet("new", "home", 21.5 * day, 2, welcome=True) == Met(21.5 * day, False), (
        "who only chats takes no place"
    )
    state.close()


def test_a_ballot_is_taken_once_and_the_newest_are_kept(place: Place) -> None:
    state = ServingState(place)
    for number in range(NEWEST_BALLOTS + 5):
        state.add_ballot(comparison(comparison_id=f"shadow-{number}", annotator=f"person-{number}"), float(number))
    newest = state.take_ballot(lambda ballot: ballot.annotator != f"person-{NEWEST_BALLOTS + 4}")
    assert newest is not None and newest.comparison_id == f"shadow-{NEWEST_BALLOTS + 3}"
    taken = []
    while ballot := state.take_ballot(lambda ballot: True):
        taken.append(ballot.comparison_id)
    assert len(taken) == len(set(taken)) == NEWEST_BALLOTS - 1 and newest.comparison_id not in taken
    state.close()


def test_a_nickname_is_one_persons(place: Place) -> None:
    state = ServingState(place)
    state.join("ann", "Ann")
    with pytest.raises(NicknameTaken):
        state.join("bob", "ANN")
    state.join("ann", "Anna")
    state.join("bob", "Ann")
    assert state.nicknames() == {"ann": "Anna", "bob": "Ann"}
    state.leave("ann")
    assert state.nicknames() == {"bob": "Ann"}
    state.close()


def test_what_has_expired_is_dropped(place: Place) -> None:
    state = ServingState(place)
    state.add_comparison(comparison(comparison_id="old"), 1.0, 10)
    state.add_comparison(comparison(comparison_id="new"), 2.0, 20)
    for number in (1, 2):
        request = StoredRequest(request_id=f"r-{number}", user="ann", version="v1.0", prompt="Why?")
        state.add_request(request, number / 2)
    state.close()
    state = ServingState(place)
    assert state.oldest_open_offset(0.0) == 10
    state.forget_before(2.0, 1.0)
    assert state.comparison("old") is None and state.comparison("new") is not None
    assert set(state.requests(["r-1", "r-2"])) == {"r-2"}, "what was answered can be spoken of for longer"
    assert (state.oldest_open_offset(0.0), state.oldest_open_offset(3.0)) == (20, None)
    state.close()


def test_a_person_is_forgotten_and_another_is_joined(place: Place) -> None:
    state = ServingState(place)
    state.add_comparison(comparison(comparison_id="of-ann"), 1.0, 0)
    state.add_comparison(comparison(comparison_id="of-bob", annotator="bob", asked_by="ann"), 1.0, 0)
    state.add_comparison(comparison(comparison_id="of-eve", annotator="eve"), 1.0, 0)
    for name, met in (("ann", 5.0), ("eve", 3.0), ("eva", 2.0)):
        state.note(name, met)
    state.join("ann", "Ann")
    state.join("eve", "Eve")
    state.close()
    forget_person(place, "ann")
    assert join_people(place, ["eve"], "eva") == 3
    assert people_of(place) == ["eva"]
    state = ServingState(place)
    assert state.comparison("of-ann") is None and state.comparison("of-bob") is None
    kept = state.comparison("of-eve")
    assert kept is not None and kept.annotator == "eva"
    assert state.nicknames() == {"eva": "Eve"}
    assert state.meet("eva", "home", 9.0, 2, welcome=True) == Met(2.0, False)
    state.close()
