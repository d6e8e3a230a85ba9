"""What has the name of a class in a program has words in a message."""

from typing import Any

import httpx
import pytest

from dpo_pipeline.in_words import fault, kind_of, requirement


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
