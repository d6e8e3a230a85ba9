"""Marks by which chat templates tell turns apart. In what people type they are text, and must stay text."""

import re

TURN_MARKS = r"<\|[^|<>]{1,40}\|>|\[/?INST\]|<</?SYS>>|</?s>|<(?:start|end)_of_turn>"
JOINER = "\u2060"  # WORD JOINER: no width, no meaning
_TOKEN = re.compile(TURN_MARKS)


def has_template_token(text: str) -> bool:
    return ("<" in text or "[" in text) and _TOKEN.search(text) is not None


def defuse(text: str) -> str:
    """The same text to look at, in which no tokenizer finds a turn's mark: an invisible character breaks each."""
    if not has_template_token(text):
        return text
    return _TOKEN.sub(lambda found: found.group()[0] + JOINER + found.group()[1:], text)
