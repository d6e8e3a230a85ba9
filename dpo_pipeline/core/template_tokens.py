"""Marks by which chat templates tell turns apart. In what people type they are text, and must stay text.

This file stands alone: it goes with every version into MLflow, where it runs without this project.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

TURN_MARKS = r"<\|[^|<>]{1,40}\|>|\[/?INST\]|<</?SYS>>|</?s>|<(?:start|end)_of_turn>"
THINKING = ("<think>", "</think>")
JOINER = "\u2060"  # WORD JOINER: no width, no meaning
REWRITTEN = f"a{JOINER}b＜É"
"""What a tokenizer that changes letters before it reads them does not leave as it is."""
_TOKEN = re.compile(TURN_MARKS)


def has_template_token(text: str) -> bool:
    return ("<" in text or "[" in text) and _TOKEN.search(text) is not None


def control_tokens(tokenizer: Any) -> tuple[str, ...]:
    """What this tokenizer reads as one token and is no text: special tokens, and added ones that its template writes.

    Other added tokens are text: words, runs of spaces, and with some models the tags of HTML. A token of one character
    cannot be broken, and is left out.
    """
    template = str(tokenizer.chat_template or "")
    added = tokenizer.added_tokens_decoder.values()
    marks = {str(each) for each in added if each.special or (_looks_like_a_mark(str(each)) and str(each) in template)}
    return tuple(sorted(token for token in {*marks, *tokenizer.all_special_tokens} if len(token) > 1))


class Defuser:
    """Keeps what people write text for one tokenizer, whatever that makes of letters before it looks for tokens."""

    def __init__(self, tokenizer: Any):
        self._tokenizer, self.tokens = tokenizer, control_tokens(tokenizer)
        self._ids = {int(tokenizer.convert_tokens_to_ids(token)): token for token in self.tokens}
        self._rewrites = self._normalised(REWRITTEN) != REWRITTEN

    def __call__(self, text: str, role: str = "user") -> str:
        """The same text to look at, in which this tokenizer finds no control token."""
        told = defuse(text, self.tokens, role)
        if not self._rewrites or not self._holds_token(told, role):
            return told
        # It takes the invisible character away, or makes marks of letters of another width: a space stays.
        return defuse(self._normalised(told), self.tokens, role, " ")

    def _normalised(self, text: str) -> str:
        normalizer = getattr(getattr(self._tokenizer, "backend_tokenizer", None), "normalizer", None)
        return text if normalizer is None else str(normalizer.normalize_str(text))

    def _holds_token(self, text: str, role: str) -> bool:
        read = {self._ids.get(each) for each in self._tokenizer(text, add_special_tokens=False)["input_ids"]} - {None}
        return not read <= set(THINKING if role == "assistant" else ())


def defuse(text: str, tokens: Sequence[str] = (), role: str = "user", breaker: str = JOINER) -> str:
    """The same text to look at, with no turn's mark in it: an invisible character breaks each.

    Args:
        tokens: of the tokenizer that will read it, beside the marks that are known everywhere.
        role: whose text it is; how an assistant thinks aloud is part of what it says.
        breaker: what stands behind a mark's first character then.
    """

    def broken(found: re.Match[str]) -> str:
        return found.group()[0] + breaker + found.group()[1:]

    if role == "assistant":
        tokens = [token for token in tokens if token not in THINKING]
    if has_template_token(text):
        text = _TOKEN.sub(broken, text)
    if tokens and any(token in text for token in tokens):
        text = _pattern(tuple(tokens)).sub(broken, text)
    return text


@lru_cache(maxsize=16)
def _pattern(tokens: tuple[str, ...]) -> re.Pattern[str]:
    # The longest first: one token may begin with another.
    return re.compile("|".join(re.escape(token) for token in sorted(tokens, key=len, reverse=True)))


def _looks_like_a_mark(token: str) -> bool:
    return token[:1] + token[-1:] in ("<>", "[]")
