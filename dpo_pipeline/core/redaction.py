"""What must not reach the disk: e-mail addresses, card numbers, keys and tokens in what people type.

Names, addresses and health are not found by patterns; whoever needs that adds a function (`collection.redactor`). No
text, however long or odd, costs more than its length: what can begin a finding is bounded by what stands before it,
quantifiers are possessive or bounded, and card numbers are looked for in all places at once.
"""

import re
from collections.abc import Callable, Mapping, Sequence

from dpo_pipeline.core.card_numbers import GAPS, card_numbers
from dpo_pipeline.errors import RedactionFailed

_EMAIL = re.compile(r"(?<![\w.+-])[\w.+-]++[@＠][\w-]++(?:\.[\w-]++)++")
# Each of these begins with one certain character, for which Python looks first: what stands before is asked then.
_KEYS = (
    r"sk-[A-Za-z0-9_-]{16,}+", r"gh[pousr]_\w{20,}+", r"github_pat_\w{20,}+", r"AKIA[0-9A-Z]{16}", r"AIza[\w-]{35}",
    r"xox[a-z]-[\w-]{10,}+", r"hf_[A-Za-z0-9]{30,}+", r"glpat-[\w-]{20,}+", r"whsec_[A-Za-z0-9+/=]{24,}+",
    *(rf"{kind}_(?:live|test)_\w{{10,}}+" for kind in ("sk", "pk", "rk")), r"npm_[A-Za-z0-9]{36}",
    r"pypi-AgE[\w-]{16,}+", r"ya29\.[\w-]{20,}+", r"eyJ[\w-]{10,}+\.[\w-]{10,}+\.[\w-]{10,}+",
)  # fmt: skip
_PRIVATE_KEY = (
    # With its headers (`Proc-Type: …`), with line ends as \n, and without an end.
    r"-----BEGIN (?:[A-Z ]{0,40}PRIVATE KEY|PGP PRIVATE KEY BLOCK)-----"
    r"(?:\s|\\n)*+(?:[A-Za-z-]{1,20}: [^\n\\]{0,200}+(?:\r?\n|\\n))*+(?:[A-Za-z0-9+/=\s]|\\r|\\n)*+"
    r"(?:-----END [A-Z ]{0,60}-----)?"
)
_KEY = re.compile("|".join((*(rf"{key[0]}(?<!\w.){key[1:]}" for key in _KEYS), _PRIVATE_KEY)))
_IBAN_LENGTHS = {
    15: "NO", 16: "BE", 18: "DK FI FK FO GL NL SD", 19: "MK SI", 20: "AT BA EE KZ LT LU MN XK", 21: "CH HR LI LV",
    22: "BG BH CR DE GB GE IE ME RS VA", 23: "AE GI IL IQ OM SO TL", 24: "AD CZ ES MD PK RO SA SE SK TN VG",
    25: "LY PT ST", 26: "IS TR", 27: "BI DJ FR GR IT MC MR SM", 28: "AL AZ BY CY DO GT HN HU LB NI PL SV",
    29: "BR EG PS QA UA", 30: "JO KW MU YE", 31: "MT SC", 32: "LC", 33: "RU",
}  # fmt: skip
"""Characters by country, from the IBAN registry of ISO 13616."""
_VALUE = {ord(letter): str(value) for value, letter in enumerate("ABCDEFGHIJKLMNOPQRSTUVWXYZ", start=10)} | {
    ord(gap): "" for gap in GAPS
}
_COUNTRY_DIGITS = 6
"""Two letters, each of two digits as a value, and the two check digits."""


def _iban(length: int, countries: str) -> str:
    """Behind a country and the first of its check digits: whole, or in groups of four as it is printed."""
    gap = rf"[{re.escape(GAPS)}]{{0,2}}"
    groups, rest = divmod(length - 4, 4)
    last = f"{gap}[A-Z0-9]{{{rest}}}" if rest else ""
    named = "|".join(f"{country}." for country in countries.split())
    return rf"(?<={named})\d(?:{gap}[A-Z0-9]{{4}}){{{groups}}}{last}"


# Looked for from its first digit on, since letters are everywhere; then what is cheap to ask.
_ANY_IBAN = rf"\d(?<=[A-Z].)(?=\d[{re.escape(GAPS)}]{{0,2}}[A-Z0-9]{{4}})(?<=[A-Z]{{2}}.)(?<![A-Z0-9]...)"
_IBAN = re.compile(
    rf"{_ANY_IBAN}(?:{'|'.join(_iban(*each) for each in _IBAN_LENGTHS.items())})(?![A-Z0-9])", re.IGNORECASE | re.ASCII
)


Redactor = Callable[[str], str]
"""Text → the same without personal data."""


def followed_by(own: Redactor, name: str) -> Redactor:
    """What is found here, and then what somebody's own function finds; where that fails nothing may be stored.

    Raises (the result):
        RedactionFailed: it raised, or gave no text.
    """

    def both(text: str) -> str:
        try:
            found = own(redact(text))
        except Exception as error:
            raise RedactionFailed(
                f"{name} failed on a text ({type(error).__name__}), which is therefore not stored."
            ) from None  # what it raised may quote the text, and would stand in the program's log
        if not isinstance(found, str):
            raise RedactionFailed(
                f"{name} gave {type(found).__name__} for a text; a text is required. It is not stored."
            )
        return found

    return both


def redact(text: str) -> str:
    """The text with each finding replaced by its kind in brackets, such as [e-mail]."""
    text = _KEY.sub("[key]", text)
    if "@" in text or "＠" in text:
        text = _EMAIL.sub("[e-mail]", text)
    ibans = ((found.start() - 2, found.end()) for found in _IBAN.finditer(text))
    text = _without(text, [span for span in ibans if _is_iban(text[slice(*span)])], "[iban]")
    return _without(text, card_numbers(text), "[card]")


def redacted_turns(prompt: str | Sequence[Mapping[str, str]], redact: Redactor) -> str | list[dict[str, str]]:
    """A question, or the messages of a conversation, each text by itself."""
    if isinstance(prompt, str):
        return redact(prompt)
    return [{**message, "content": redact(message["content"])} for message in prompt]


def _without(text: str, spans: Sequence[tuple[int, int]], kind: str) -> str:
    """`spans` are in order and do not overlap."""
    parts, end = [], 0
    for begin, until in spans:
        parts += [text[end:begin], kind]
        end = until
    return "".join([*parts, text[end:]]) if parts else text


def _is_iban(text: str) -> bool:
    """ISO 13616: the rearranged number is 1 modulo 97."""
    digits = text.upper().translate(_VALUE)
    return int(digits[_COUNTRY_DIGITS:] + digits[:_COUNTRY_DIGITS]) % 97 == 1
