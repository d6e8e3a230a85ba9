"""What must not reach the disk: e-mail addresses, card numbers, keys and tokens in what people type.

Names, addresses and health are not found by patterns; whoever needs that adds a function (`collection.redactor`). No
text, however long or odd, costs more than its length: what can begin a finding is bounded by what stands before it,
quantifiers are possessive or bounded, and numbers of cards and accounts are looked for in all places at once.
"""

import re
import string
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice

from dpo_pipeline.core.card_numbers import card_numbers, without_digits
from dpo_pipeline.core.character_kinds import as_ascii, in_pieces
from dpo_pipeline.core.ibans import ibans
from dpo_pipeline.errors import RedactionFailed
from dpo_pipeline.in_words import kind_of, kind_of_fault

_EMAIL = r"(?<![{word}.+-])[{word}.+-]++{at}[{word}-]++(?:\.[{word}-]++)++"
# Python looks up whether a letter of any script is one, which takes three times as long as a set of letters.
_EMAIL_ASCII = re.compile(_EMAIL.format(word="A-Za-z0-9_", at="@"))
_EMAIL_ANY = re.compile(_EMAIL.format(word=r"\w", at="[@＠]"))
_HOST = re.compile(r"@(?<=[A-Za-z0-9_.+-]@)[A-Za-z0-9_-]++(?:\.[A-Za-z0-9_-]++)++")
_NAME = string.ascii_letters + string.digits + "_.+-"
_ALL = {code: "#" for code in range(128) if not chr(code).isspace()}
_STRIPE = r"(?:live|test)_[A-Za-z0-9_]{10,}+"
# How a key begins, and what has to follow. Each kind is looked for by itself: one certain beginning is found several
# times faster than any of many is tried at each letter.
_KEYS = (
    ("sk-", r"[A-Za-z0-9_-]{16,}+"), ("sk_", _STRIPE), ("pk_", _STRIPE), ("rk_", _STRIPE),
    ("gh", r"[pousr]_[A-Za-z0-9_]{20,}+"), ("github_pat_", r"[A-Za-z0-9_]{20,}+"),
    ("glpat-", r"[A-Za-z0-9_-]{20,}+"), ("AKIA", r"[0-9A-Z]{16}"), ("AIza", r"[A-Za-z0-9_-]{35}"),
    ("xox", r"[a-z]-[A-Za-z0-9_-]{10,}+"), ("hf_", r"[A-Za-z0-9]{30,}+"), ("whsec_", r"[A-Za-z0-9+/=]{24,}+"),
    ("npm_", r"[A-Za-z0-9]{36}"), ("pypi-AgE", r"[A-Za-z0-9_-]{16,}+"), (r"ya29\.", r"[A-Za-z0-9_-]{20,}+"),
)  # fmt: skip
# A token of three parts (JWT), or the first of them: where no others follow, none begins within it.
_TOKEN = re.compile(r"eyJ(?<![A-Za-z0-9_]eyJ)[A-Za-z0-9_-]{10,}+(\.[A-Za-z0-9_-]{10,}+\.[A-Za-z0-9_-]{10,}+)?")
_PRIVATE_KEY = (
    # With its headers (`Proc-Type: …`), with line ends as \n, and without an end.
    r"-----BEGIN (?:[A-Z ]{0,40}PRIVATE KEY|PGP PRIVATE KEY BLOCK)-----"
    r"(?:\s|\\n)*+(?:[A-Za-z-]{1,20}: [^\n\\]{0,200}+(?:\r?\n|\\n))*+(?:[A-Za-z0-9+/=\s]|\\r|\\n)*+"
    r"(?:-----END [A-Z ]{0,60}-----)?"
)
_KIND_OF_KEY = tuple(
    map(re.compile, (_PRIVATE_KEY, *(f"{begin}(?<![A-Za-z0-9_]{begin}){rest}" for begin, rest in _KEYS)))
)

PIECE, MOST_FOUND = 1 << 16, 1_000
"""Longer texts than any that is asked or answered are looked at until there are so many addresses, or numbers of cards
or accounts, that it is a list of them: behind those nothing of it is kept, or no digit."""
SHOWN = 300
"""Characters of what another program said that are repeated in an error."""
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
                f"{name} failed on a text ({kind_of_fault(error)}), which is therefore not stored."
            ) from None  # what it raised may quote the text, and would stand in the program's log
        if not isinstance(found, str):
            raise RedactionFailed(f"{name} gave {kind_of(found)} for a text; a text is required. It is not stored.")
        return found

    return both


def redact(text: str) -> str:
    """The text with each finding replaced by its kind in brackets, such as [e-mail]."""
    for key in _KIND_OF_KEY:
        text = key.sub("[key]", text)
    text = _TOKEN.sub(lambda found: "[key]" if found[1] else found[0], text)
    if "@" in text or "＠" in text:
        text = _without_addresses(text)
    return _hidden(_hidden(text, ibans, "[iban]"), card_numbers, "[card]")


def cut(text: str, secret: str = "") -> str:
    """The beginning of what another program said, without what is secret: servers repeat keys in their errors.

    Args:
        secret: one of ours, which no pattern needs to know.
    """
    text = text[: 2 * SHOWN + len(secret)]
    text = redact(text.replace(secret, "[key]") if secret else text)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"


def redacted_turns(prompt: str | Sequence[Mapping[str, str]], redact: Redactor) -> str | list[dict[str, str]]:
    """A question, or the messages of a conversation, each text by itself."""
    if isinstance(prompt, str):
        return redact(prompt)
    return [{**message, "content": redact(message["content"])} for message in prompt]


def _without_addresses(text: str) -> str:
    if len(text) <= PIECE:
        return (_EMAIL_ASCII if text.isascii() else _EMAIL_ANY).sub("[e-mail]", text)
    plain = text if text.isascii() else as_ascii(text)
    spans = list(islice(_addresses(plain), MOST_FOUND))
    return _without_list(text, spans, "[e-mail]", lambda rest: as_ascii(rest).translate(_ALL))


def _addresses(text: str) -> Iterator[tuple[int, int]]:
    """As `_EMAIL_ASCII` finds them, from their @ on: what is nearly one costs nothing where there is none."""
    behind, last = 0, 0  # the last address, and the last @ of a host
    for host in _HOST.finditer(text):
        name = text[max(behind, last) : host.start()]
        begin = host.start() - len(name) + len(name.rstrip(_NAME))
        last = host.start() + 1
        if begin < host.start() and not begin == behind > 0:
            behind = host.end()
            yield begin, behind


def _hidden(text: str, numbers: Callable[[str, int], list[tuple[int, int]]], kind: str) -> str:
    """Without these numbers; where they are more than anybody types, without any digit after the last one found."""
    if len(text) <= PIECE:
        return _without(text, numbers(text, 0), kind)
    return _without_list(text, in_pieces(numbers, text, PIECE, MOST_FOUND), kind, without_digits)


def _without_list(text: str, spans: Sequence[tuple[int, int]], kind: str, hide: Redactor) -> str:
    """As `_without`; where there are `MOST_FOUND`, `hide` takes what stands behind them."""
    if len(spans) < MOST_FOUND:
        return _without(text, spans, kind)
    end = spans[-1][1]
    return _without(text[:end], spans, kind) + hide(text[end:])


def _without(text: str, spans: Sequence[tuple[int, int]], kind: str) -> str:
    """`spans` are in order and do not overlap."""
    if not spans:
        return text
    begins, ends = zip(*spans, strict=True)
    return kind.join([text[end:begin] for end, begin in zip((0, *ends), (*begins, len(text)), strict=True)])
