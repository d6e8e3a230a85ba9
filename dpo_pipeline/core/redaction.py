"""What must not reach the disk: e-mail addresses, card numbers, keys and tokens in what people type.

Names, addresses and health are not found by patterns; whoever needs that puts a stronger filter in front. Every
pattern reads a text once: what can begin a finding is bounded by what stands before it, and quantifiers are possessive
or bounded, so that no text, however long or odd, costs more than its length.
"""

import re

_EMAIL = re.compile(r"(?<![\w.+-])[\w.+-]++@[\w-]++(?:\.[\w-]++)++")
_KEY = re.compile(
    r"\b(?:sk-[A-Za-z0-9_-]{16,}|(?:gh[pousr]|github_pat)_\w{20,}|AKIA[0-9A-Z]{16}|xox[a-z]-[\w-]{10,}|hf_\w{20,}"
    r"|(?:sk|pk|rk)_(?:live|test)_\w{10,}|AIza[\w-]{35}|glpat-[\w-]{20,})"
    r"|(?<![\w-])eyJ[\w-]{10,}+\.[\w-]{10,}+\.[\w-]{10,}+"
    r"|-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----[A-Za-z0-9+/=\s]*+(?:-----END [A-Z ]{0,40}PRIVATE KEY-----)?"
)
_GAP = " \u00a0\u2007\u202f.-"
"""What people put between the groups of a number."""
_CARD = re.compile(rf"(?<![\w-])\d(?:[{_GAP}]?\d){{12,18}}(?![\w-])")
_IBAN = re.compile(
    rf"\b[A-Z]{{2}}\d{{2}}(?:[{_GAP}]?[A-Z0-9]{{4}}){{3,7}}(?:[{_GAP}]?[A-Z0-9]{{1,3}})?\b", re.IGNORECASE | re.ASCII
)
_GROUP = re.compile(r"\d+")
_SHORTEST_CARD, _SHORTEST_GROUP = 13, 3


def redact(text: str) -> str:
    """The text with each finding replaced by its kind in brackets, such as [e-mail]."""
    text = _KEY.sub("[key]", text)
    if "@" in text:
        text = _EMAIL.sub("[e-mail]", text)
    text = _IBAN.sub(lambda found: "[iban]" if _is_iban(found.group()) else found.group(), text)
    return _CARD.sub(lambda found: _without_cards(found.group()), text)


def _without_cards(number: str) -> str:
    """The number, or what is left of it where it is a card's, or whole groups of it are: "4111 1111 1111 1111 123"."""
    if _is_card(number):
        return "[card]"
    groups = list(_GROUP.finditer(number))
    long = [len(each.group()) >= _SHORTEST_GROUP for each in groups]
    for first, begin in enumerate(groups):
        for place in range(len(groups) - 1, first - 1, -1):
            if not all(long[first : place + 1]):
                continue
            last = groups[place]
            part = number[begin.start() : last.end()]
            if _is_card(part):
                return f"{number[: begin.start()]}[card]{number[last.end() :]}"
    return number


def _is_card(text: str) -> bool:
    """Luhn's checksum, so that long numbers which are no card numbers stay."""
    digits = [int(character) for character in text if character.isdigit()]
    doubled = [sum(divmod(2 * digit, 10)) for digit in digits[-2::-2]]
    return len(digits) >= _SHORTEST_CARD and (sum(digits[::-2]) + sum(doubled)) % 10 == 0


def _is_iban(text: str) -> bool:
    """ISO 13616: the rearranged number is 1 modulo 97."""
    compact = re.sub(f"[{_GAP}]", "", text)
    return int("".join(str(int(character, 36)) for character in compact[4:] + compact[:4])) % 97 == 1
