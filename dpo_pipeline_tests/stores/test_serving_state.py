"""What people asked in chats, to be asked again: distinct, newest first, within limits."""

from collections.abc import Iterable
from pathlib import Path

from dpo_pipeline.stores.serving_state import NEWEST_PROMPTS, REQUESTS_LOOKED_AT, ServingState, StoredRequest


def prompts_after(path: Path, requests: Iterable[tuple[str, bool]]) -> list[str]:
    """What a server finds that starts after these (prompt, single_turn) were answered, oldest first."""
    before = ServingState(path)
    for number, (prompt, single) in enumerate(requests):
        stored = StoredRequest(request_id=f"r-{number}", user="ann", version="v1.0", prompt=prompt, single_turn=single)
        before.add_request(stored, float(number))
    before.close()
    state = ServingState(path)
    try:
        return state.newest_prompts()
    finally:
        state.close()


def test_prompts_are_distinct_and_the_newest_come_first(tmp_path: Path) -> None:
    asked = ["Why is the sky blue?", "How do bees fly?", "why is  the SKY blue? ", "What is rain?"]
    found = prompts_after(tmp_path / "state.db", [(text, True) for text in asked])
    assert found == ["What is rain?", "why is  the SKY blue?", "How do bees fly?"]


def test_turns_of_conversations_and_what_is_too_short_or_long_are_left_out(tmp_path: Path) -> None:
    asked = [("And then?", False), ("Hi", True), ("   a  ", True), ("Hi!", True), ("x" * 500, True), ("x" * 501, True)]
    assert prompts_after(tmp_path / "state.db", asked) == ["x" * 500, "Hi!"]


def test_only_the_newest_are_looked_at(tmp_path: Path) -> None:
    many = [(f"Question {number}", True) for number in range(NEWEST_PROMPTS + 100)]
    found = prompts_after(tmp_path / "many.db", many)
    assert len(found) == NEWEST_PROMPTS and found[0] == "Question 599" and found[-1] == "Question 100"
    drowned = [("An old question", True)] + [("The same question", True)] * REQUESTS_LOOKED_AT
    assert prompts_after(tmp_path / "drowned.db", drowned) == ["The same question"]


def test_a_request_stored_before_single_turns_were_marked_is_left_out(tmp_path: Path) -> None:
    state = ServingState(tmp_path / "state.db")
    row = b'{"request_id":"r-1","user":"ann","version":"v1.0","prompt":"Why is the sky blue?"}'
    state._db.execute("insert into requests values (?, ?, ?)", ("r-1", 1.0, row))
    assert state.newest_prompts() == []
    assert state.request("r-1")
    state.close()
