"""Personal data is replaced before anything is stored; ordinary numbers stay."""

import time

import pytest
from hypothesis import given, settings, target
from hypothesis import strategies as st

from dpo_pipeline.core.card_numbers import card_numbers
from dpo_pipeline.core.character_kinds import in_pieces
from dpo_pipeline.core.ibans import ibans
from dpo_pipeline.core.redaction import MOST_FOUND, PIECE, redact


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
        ("eyJhbGciOiJIUzI1.x.eyJhbGciOiJIUzI1.eyJzdWIiOiIxMjM.SflKxwRJSM_-x", "eyJhbGciOiJIUzI1.x.[key]"),
        ("AIzaSyA0123456789abcdefghijklmnopqrstuv", "[key]"),
        ("glpat-0123456789abcdefghij", "[key]"),
        ("-----BEGIN RSA PRIVATE KEY-----\nMIIEa\n-----END RSA PRIVATE KEY-----\nthat was it", "[key]\nthat was it"),
        ("-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBg", "[key]"),
        ("-----BEGIN PRIVATE KEY----- begins it. Then read on.", "[key]. Then read on."),
        ("4111 1111 1111 1111 12/26", "[card] 12/26"),
        ("2 4111 1111 1111 1111", "2 [card]"),
        ("a" * 90 + "@mail.example.org", "[e-mail]"),
        ("ann＠mail.example.org", "[e-mail]"),
        *(
            (f"card {'4111' + gap + '1111' + gap + '1111' + gap + '1111'}!", "card [card]!")
            for gap in ("", " ", "  ", "-", "–", "\u200b", "\u2009", "\u00a0", ". ")
        ),
        ("visa4111111111111111", "visa[card]"),
        ("４１１１ １１１１ １１１１ １１１１ and ٤١١١١١١١١١١١١١١١", "[card] and [card]"),
        ("first 4111 1111 1111 1111, then 5500 0000 0000 0004", "first [card], then [card]"),
        ("pay BE68539007547034 now", "pay [iban] now"),
        ("ES91 2100 0418 4502 0005 1332 and then", "[iban] and then"),
        ("AT61 1904 3002 3457 3201 is it", "[iban] is it"),
        ("NO93 8601 1117 947 is it", "[iban] is it"),
        ("MT84 MALT 0110 0001 2345 MTLC AST0 01S is it", "[iban] is it"),
        ("CZ6508000000192000145399 and SE4550000000058398257466", "[iban] and [iban]"),
        ("AD61 JO31 520A 1X16 5097 3416 723C 1155 21", "AD61 [iban]"),
        ("GB82\u00a0WEST\u00a01234\u00a05698\u00a07654\u00a032", "[iban]"),
        ("whsec_0123456789abcdefghijABCD", "[key]"),
        ("npm_0123456789abcdefghijABCDEFGHIJ012345", "[key]"),
        ("pypi-AgEIcHlwaS5vcmcCJGNkNTk5", "[key]"),
        ("ya29.a0AfH6SMBx0123456789abcdef", "[key]"),
        ("-----BEGIN PGP PRIVATE KEY BLOCK-----\n\nlQOYBF\n-----END PGP PRIVATE KEY BLOCK-----!", "[key]!"),
        (
            "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,0F\n\nMIIEa\n"
            "-----END RSA PRIVATE KEY-----",
            "[key]",
        ),
        ("-----BEGIN PRIVATE KEY-----\u00a0MIIEvQ\u2028IBADAN\u0085-----END PRIVATE KEY-----", "[key]"),
        (r'"-----BEGIN PRIVATE KEY-----\nMIIEvQ\nIBADAN\n-----END PRIVATE KEY-----\n"', r'"[key]\n"'),
    ],
)
def test_found(text: str, kept: str) -> None:
    assert redact(text) == kept


KEYS = (
    "sk-proj-0123456789abcdefgh", "sk_live_0123456789abcdef", "pk_test_0123456789", "rk_live_0123456789",
    "AKIAIOSFODNN7EXAMPLE", "AIzaSyA0123456789abcdefghijklmnopqrstuv", "ghs_0123456789abcdefghij", "xoxb-0123456789",
    "github_pat_0123456789abcdefghij", "glpat-0123456789abcdefghij", "hf_" + "aB3" * 10, "npm_" + "aB3" * 12,
    "whsec_0123456789abcdefghijABCD", "pypi-AgEIcHlwaS5vcmcCJGNkNTk5", "ya29.a0AfH6SMBx0123456789abcdef",
    "eyJhbGciOiJIUzI1.eyJzdWIiOiIxMjM.SflKxwRJSM_-x", "-----BEGIN PRIVATE KEY-----\nMIIEvQ\n-----END PRIVATE KEY-----",
)  # fmt: skip


@pytest.mark.parametrize("first", KEYS)
def test_keys_of_every_two_kinds_are_found_beside_each_other(first: str) -> None:
    for second in KEYS:
        for between in (", ", ",", '":"', " and ", ")("):
            assert redact(f"({first}{between}{second})") == f"([key]{between}[key])"


def test_a_private_key_right_behind_another_key_is_found() -> None:
    assert redact(f"sk-proj-0123456789abcdefgh{KEYS[-1]}") == "[key][key]"


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
        "in 2019, 2020, 2021 and 2022",
        "1700000000000 ms",
        "year sales\n2019 4210\n2020 4431\n2021 4512\n2022 4733\n2023 4954",
        "202-555-0143\n202-555-0178\n202-555-0199\n202-555-0121",
        "2024-01-02/2024-03-04",
        "128 256 512 1024 2048 4096 8192 16384",
        "pypi-publish-github-action npm_config_registry_url_for_the_build whsec_signature_verification_of_it",
        "hf_hub_download_with_retries",
        "tel. +49 30 901820 or +1 202 456 1111",
        "de12 we saw it, in de89 too",
        "7b1e3ad2-94f5-4a5c-8f30-0d7f2b6c1a11",
    ],
)
def test_ordinary_text_stays(text: str) -> None:
    assert redact(text) == text


@given(st.text())
def test_twice_is_once(text: str) -> None:
    assert redact(redact(text)) == redact(text)


@pytest.mark.slow
@settings(max_examples=300)
@given(st.text("4442 1DE8.", min_size=70, max_size=400), st.integers(66, 200), st.integers(0, 200))
def test_in_pieces_the_same_is_found(text: str, size: int, begin: int) -> None:
    card, account = "4242 4242 4242 4242", "DE89 3704 0044 0532 0130 00"
    text = f"{text[:begin]} {card}{text[begin:]} {account} 4{card} {card}DE89370400440532013000 {text[::-1]}{account}"
    for find in (card_numbers, ibans):
        assert in_pieces(find, text, size, most=1_000) == find(text)


@pytest.mark.slow
@settings(max_examples=300)
@given(st.text("aé.@-+ 9＠", max_size=60), st.sampled_from(["é so ", "e so "]))
def test_in_a_long_text_the_same_addresses_are_found(text: str, filling: str) -> None:
    filling *= PIECE // 4
    assert redact(f"{text} {filling}") == f"{redact(text)} {filling}"
    assert redact(f"{filling}{text}") == f"{filling}{redact(text)}"


def test_a_number_across_two_pieces_is_found_beside_digits_that_are_cut() -> None:
    text = "x" * (PIECE - 64 - 3) + " 44242 4242 4242 4242 4242 end " + "y" * PIECE
    assert "4242 4242 4242 4242" not in redact(text)


def test_a_list_of_cards_keeps_no_digit_behind_so_many() -> None:
    card = "4242 4242 4242 4242, "
    text = redact("5555555555554444 " + "so far, so good. " * 5_000 + card * 5 * MOST_FOUND + "room 12")
    assert text.startswith("[card] so far, ") and text.endswith("#### #### #### ####, room ##")
    assert not any(character.isdigit() for character in text)
    assert "[card]" in (text := redact(("٤٢٤٢ " * 4 + "ab ") * 5 * MOST_FOUND)) and text.endswith(
        "#### #### #### #### ab "
    )
    for name in ("zoe", "zoë"):
        people = redact(f"{name}@example.org, " * 5 * MOST_FOUND)
        assert set(people) == set("[e-mail], #") and people.count("[e-mail]") == MOST_FOUND
    few = redact("so far, so good. " * 5_000 + card * 3 + "room 12")
    assert few.endswith("[card], [card], [card], room 12")


BEGINNINGS = (
    "sk-", "sk_", "gh", "ghp_", "github_pat_", "AKIA", "AIza", "xoxb-", "hf_", "whsec_", "npm_", "pypi-AgE", "ya29.",
    "eyJ", "-----BEGIN",
)  # fmt: skip
ALPHABETS = {
    "addresses": "a@.-é＠", "keys": (*"skAghep_-. aZ9", *BEGINNINGS),
    "private keys": "-BEGIN PRIVATEKY:\n\\n a", "cards": "1234567890 -./\u00a0٤", "IBANs": "DE1 ABNO2é",
    "accounts": ("DE89", "AD12", "BE34", "NO93", " ", "0130", "A"),
    "all": "aé9 @.-_:\n<",
}  # fmt: skip
"""Of what the patterns are made of: texts that nearly match cost most."""
SIZE, MOST_S, AGAIN = 1_000_000, 0.15, 3


@pytest.mark.slow
@pytest.mark.parametrize("name", ALPHABETS)
@settings(max_examples=20)
@given(st.data())
def test_a_million_characters_of_the_worst_text_cost_a_fraction_of_a_second(name: str, data: st.DataObject) -> None:
    """Looked for by what a text costs: short pieces are repeated to a megabyte, and the dearest varied further.

    Of processor time. A quadratic pattern takes minutes here. The goal is 50 ms: decision 0022 has what was
    found, 28 ms at most on the faster of two processors; a slower or busy one passes here.
    """
    pieces = st.sampled_from(ALPHABETS[name])
    piece = "".join(data.draw(st.lists(pieces, min_size=1, max_size=40)))
    head = "".join(data.draw(st.lists(pieces, max_size=20)))
    text = (head + piece * (SIZE // len(piece)))[:SIZE]
    spent = _cost_s(text)
    target(spent)
    assert spent < MOST_S or min(_cost_s(text) for _ in range(AGAIN)) < MOST_S, f"{spent:.2f} s: {head!r}, {piece!r}"


def _cost_s(text: str) -> float:
    began = time.thread_time()
    redact(text)
    return time.thread_time() - began
