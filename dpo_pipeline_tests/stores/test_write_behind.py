"""What is written together does not fail together."""

import logging
from contextlib import closing
from pathlib import Path

import pytest

from dpo_pipeline.stores.serving_state import ServingState, StoredRequest
from dpo_pipeline.stores.write_behind import WriteBehind


def test_one_record_that_cannot_be_written_costs_no_other(caplog: pytest.LogCaptureFixture) -> None:
    written: list[int] = []

    def write(records: list[int]) -> None:
        if 3 in records:
            raise ValueError("three is refused")
        written.extend(records)

    behind = WriteBehind(write, "numbers")
    with caplog.at_level(logging.ERROR):
        for number in range(6):
            behind.put(number)
        behind.close()
    assert written == [0, 1, 2, 4, 5]
    assert "1 records of numbers could not be written and are lost" in caplog.text
    assert "three is refused" in caplog.text


def test_a_request_that_was_stored_before_costs_none_of_those_beside_it(tmp_path: Path) -> None:
    def request(number: int) -> StoredRequest:
        return StoredRequest(request_id=f"chatcmpl-{number}", user="ann", version="v1.0", prompt=f"Why? {number}")

    path = tmp_path / "state.db"
    with closing(ServingState(path)) as state:
        state.add_request(request(1), 1.0)
    with closing(ServingState(path)) as state:
        for number in range(4):
            state.add_request(request(number), 2.0)
    with closing(ServingState(path)) as state:
        assert [state.request(f"chatcmpl-{number}") for number in range(4)] == [request(number) for number in range(4)]
