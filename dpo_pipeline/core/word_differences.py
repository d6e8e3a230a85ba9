"""Which words two texts do not share: a reader sees at once where they part."""

import re

from rapidfuzz.distance import Indel

WordSpan = tuple[str, bool]
"""A piece of a text with the white space behind it, and whether the other text lacks it."""
MOST_WORDS = 5_000
"""Of both texts; looking for what they share costs their product."""
_WORD = re.compile(r"^\s+|\S+\s*")


def word_differences(first: str, second: str) -> tuple[list[WordSpan], list[WordSpan]]:
    """Both texts whole, in pieces. Texts of more words than are compared are one piece each, as shared."""
    ours, theirs = _WORD.findall(first), _WORD.findall(second)
    if len(ours) + len(theirs) > MOST_WORDS:
        return [(first, False)], [(second, False)]
    spans: tuple[list[WordSpan], list[WordSpan]] = ([], [])
    for step in Indel.opcodes([word.strip() for word in ours], [word.strip() for word in theirs]):
        found = ours[step.src_start : step.src_end], theirs[step.dest_start : step.dest_end]
        for pieces, words in zip(spans, found, strict=True):
            if words:
                pieces.append(("".join(words), step.tag != "equal"))
    return spans
