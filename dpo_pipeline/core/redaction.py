"""What must not reach the disk: e-mail addresses, card numbers, keys and tokens in what people type.

Names, addresses and health are not found by patterns; whoever needs that puts a stronger filter in front.
"""

import re

_EMAIL = re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+")
_KEY = re.compile(
    r"\b(?:sk-[A-Za-z0-9_-]{16,}|(?:gh[pousr]|github_pat)_\w{20,}|AKIA[0-9A-Z]{16}|xox[a-z]-[\w-]{10,}|hf_\w{20,}"
    r"|eyJ[\w-]{10,}\.[\w-]{10,}\.[\w-]{10,})"
)
_CARD = re.compile(r"(?<![\w-])\d(?:[ -]?\d){12,18}(?![\w-])")
_IBAN = re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){3,7}(?: ?[A-Z0-9]{1,3})?\b")


def redact(text: str) -> str:
    """The text with each finding replaced by its kind in brackets, such as [e-mail]."""
    text = _KEY.sub("[key]", text)
    text = _EMAIL.sub("[e-mail]", text)
    text = _IBAN.sub(lambda found: "[iban]" if _is_iban(found.group()) else found.group(), text)
    return _CARD.sub(lambda found: "[card]" if _is_card(found.group()) else found.group(), text)


def _is_card(text: str) -> bool:
    """Luhn's checksum, so that long numbers which are no card numbers stay."""
    digits = [int(character) for character in text if character.isdigit()]
    doubled = [sum(divmod(2 * digit, 10)) for digit in digits[-2::-2]]
    return (sum(digits[::-2]) + sum(doubled)) % 10 == 0


def _is_iban(text: str) -> bool:
    """ISO 13616: the rearranged number is 1 modulo 97."""
    compact = text.replace(" ", "")
    return int("".join(str(int(character, 36)) for character in compact[4:] + compact[:4])) % 97 == 1
