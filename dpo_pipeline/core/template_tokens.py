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


def defuse(text: str, tokens: Sequence[str] = (), role: str = "user") -> str:
    """The same text to look at, in which no tokenizer finds a turn's mark: an invisible character breaks each.

    Args:
        tokens: of the tokenizer that will read it, beside the marks that are known everywhere.
        role: whose text it is; how an assistant thinks aloud is part of what it says.
    """
    if role == "assistant":
        tokens = [token for token in tokens if token not in THINKING]
    if has_template_token(text):
        text = _TOKEN.sub(_broken, text)
    if tokens and any(token in text for token in tokens):
        text = _pattern(tuple(tokens)).sub(_broken, text)
    return text


@lru_cache(maxsize=16)
def _pattern(tokens: tuple[str, ...]) -> re.Pattern[str]:
    # The longest first: one token may begin with another.
    return re.compile("|".join(re.escape(token) for token in sorted(tokens, key=len, reverse=True)))


def _broken(found: re.Match[str]) -> str:
    return found.group()[0] + JOINER + found.group()[1:]


def _looks_like_a_mark(token: str) -> bool:
    return token[:1] + token[-1:] in ("<>", "[]")
