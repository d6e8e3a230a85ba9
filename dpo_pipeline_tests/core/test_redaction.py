"""Personal data is replaced before anything is stored; ordinary numbers stay."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpo_pipeline.core.redaction import redact


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("write to ada.lovelace+x@mail.example.org now", "write to [e-mail] now"),
        ("my card is 4111 1111 1111 1111.", "my card is [card]."),
        ("5500-0000-0000-0004", "[card]"),
        ("key sk-abcdefghijklmnopqrstuvwx", "key [key]"),
        ("AKIAIOSFODNN7EXAMPLE", "[key]"),
        ("ghp_0123456789abcdefghijABCDEFGHIJ", "[key]"),
        ("pay DE89 3704 0044 0532 0130 00 today", "pay [iban] today"),
    ],
)
def test_found(text: str, kept: str) -> None:
    assert redact(text) == kept


@pytest.mark.parametrize(
    "text",
    ["4111 1111 1111 1112", "in 1969 there were 3,600,000,000 people", "a@b", "task-sk-1", "π is 3.14159265358979"],
)
def test_ordinary_text_stays(text: str) -> None:
    assert redact(text) == text


@given(st.text())
def test_twice_is_once(text: str) -> None:
    assert redact(redact(text)) == redact(text)
