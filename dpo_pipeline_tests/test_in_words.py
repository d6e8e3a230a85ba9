"""What has the name of a class in a program has words in a message."""

from typing import Any

import httpx
import pytest

from dpo_pipeline.in_words import duration, fault, kind_of, requirement


def test_an_error_of_a_library_is_told_in_words() -> None:
    assert fault(httpx.ReadTimeout("")) == "read timeout"
    assert fault(httpx.ConnectError("nobody listens there")) == "connect error: nobody listens there"
    assert fault(OSError("full")) == "OS error: full" and fault(KeyError("x")) == "key error: 'x'"


@pytest.mark.parametrize(
    ("value", "words"),
    [(None, "nothing"), (True, "true or false"), (1.5, "a number"), ("", "a text"), ({}, "an object"), ([], "a list")],
)
def test_a_value_is_told_as_what_it_is(value: Any, words: str) -> None:
    assert kind_of(value) == words


def test_pydantic_adds_no_word_of_its_own() -> None:
    assert requirement("Value error, only a Postgres can be shared") == "only a Postgres can be shared"
    assert requirement("Input should be greater than 0") == "Input should be greater than 0"


def test_durations_are_said_in_the_unit_people_would_use() -> None:
    said = {0: "0 s", 45.4: "45 s", 179: "3 min", 3599: "60 min", 7200: "2 h", 23.6 * 3600: "23.6 h",
            69.9 * 3600: "2.9 days", 7 * 86_400: "7 days", 3.29 * 86_400: "3.3 days"}  # fmt: skip
    assert {seconds: duration(seconds) for seconds in said} == said
    assert [duration(seconds, down=True) for seconds in (179, 23.96 * 3600)] == ["2 min", "23.9 h"]
