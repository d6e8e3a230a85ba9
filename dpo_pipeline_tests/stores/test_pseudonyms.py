"""One person is one pseudonym, however the name was typed."""

import unicodedata

import pytest

from dpo_pipeline.stores.pseudonyms import pseudonym_of, pseudonyms_of

KEY = b"k" * 64
NAME = "Zoë Müller"


TYPED = [unicodedata.normalize("NFD", NAME), f"  {NAME}\n", "Ｚoë Müller", "Zoë  Müller", "Zoë\u200b Mü\u00adller"]


@pytest.mark.parametrize("typed", TYPED)
def test_a_name_typed_otherwise_is_the_same_person(typed: str) -> None:
    assert pseudonym_of(typed, KEY) == pseudonym_of(NAME, KEY) != pseudonym_of("Zoe Muller", KEY)


def test_what_an_earlier_program_made_of_a_name_is_found_too() -> None:
    """It took names as they came: the same hash of other bytes."""
    import hashlib
    import hmac

    decomposed = unicodedata.normalize("NFD", NAME)
    before = hmac.new(KEY, decomposed.encode(), hashlib.sha256).hexdigest()[:16]
    assert before in pseudonyms_of(NAME, KEY) and pseudonyms_of(NAME, KEY)[0] == pseudonym_of(decomposed, KEY)
