"""Personal data is replaced before anything is stored; ordinary numbers stay."""

import time
import timeit

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
        ("pay de89370400440532013000 today", "pay [iban] today"),
        ("4111 1111 1111 1111 123", "[card] 123"),
        ("4111\u00a01111\u00a01111\u00a01111", "[card]"),
        ("4111.1111.1111.1111", "[card]"),
        ("3782 822463 10005", "[card]"),
        ("sk_live_0123456789abcdef", "[key]"),
        ("AIzaSyA0123456789abcdefghijklmnopqrstuv", "[key]"),
        ("glpat-0123456789abcdefghij", "[key]"),
        ("-----BEGIN RSA PRIVATE KEY-----\nMIIEa\n-----END RSA PRIVATE KEY-----\nthat was it", "[key]\nthat was it"),
        ("-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBg", "[key]"),
        ("-----BEGIN PRIVATE KEY----- begins it. Then read on.", "[key]. Then read on."),
        ("4111 1111 1111 1111 12/26", "[card] 12/26"),
        ("2 4111 1111 1111 1111", "2 [card]"),
        ("a" * 90 + "@mail.example.org", "[e-mail]"),
    ],
)
def test_found(text: str, kept: str) -> None:
    assert redact(text) == kept


@pytest.mark.parametrize(
    "text",
    [
        "\u0130S12 3456 7890 1234 5678",
        "\u017fe12 3456 7890 1234 5678",
        "4111 1111 1111 1112",
        "in 1969 there were 3,600,000,000 people",
        "a@b",
        "task-sk-1",
        "π is 3.14159265358979",
    ],
)
def test_ordinary_text_stays(text: str) -> None:
    assert redact(text) == text


@given(st.text())
def test_twice_is_once(text: str) -> None:
    assert redact(redact(text)) == redact(text)


WORST = {
    "no address": "a" * 100_000,
    "an address that never comes": "a" * 99_990 + "@" + "b" * 10,
    "a domain that never ends": "a@" + "b" * 100_000,
    "half addresses": "a@a" * 33_000,
    "dots": "a@b" + "." * 100_000,
    "half tokens": "eyJaaaaaaaaaa-" * 7_000,
    "half keys": "sk-" * 33_000,
    "begins of keys": "-----BEGIN PRIVATE KEY-----" * 3_700,
    "hyphens behind a begin": "-----BEGIN PRIVATE KEY-----" + "-" * 100_000,
    "digits with gaps": "1 " * 50_000,
    "groups of four": "1234 " * 20_000,
    "halves of IBANs": "AA11 " * 20_000,
    "spaces": " " * 100_000,
}


@pytest.mark.parametrize("name", WORST)
def test_no_text_costs_more_than_its_length(name: str) -> None:
    """Of processor time, ten times the text costs ten times as much, with noise; squared it would be a hundred."""

    def seconds(text: str) -> float:
        return min(timeit.repeat(lambda: redact(text), timer=time.process_time, number=1, repeat=5))

    assert seconds(WORST[name]) < 40 * max(seconds(WORST[name][: len(WORST[name]) // 10]), 2e-4)
