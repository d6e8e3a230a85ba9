"""A text as an array of what each character is, for finding numbers in all places at once."""

import re
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

GAPS = " .-\u00a0\u00ad\u2002\u2003\u2007\u2009\u200a\u200b\u2010\u2011\u2012\u2013\u2014\u202f\u2060"
"""What people and their programs put between the groups of a number, one or two of them."""
WIDEST_GAP = 2
WIDEST = 64
"""More characters than any number has with its gaps."""
LONG = 4_000
"""From so many characters on, arrays cost less than asking first whether there is anything to look for."""
PAST_LETTERS = 0x20000
"""No script's letters or digits lie behind this code point: only ideographs, tags and what is for private use do."""
OTHER = 255


def kinds_of(text: str, table: "npt.NDArray[np.uint8]") -> "npt.NDArray[np.uint8]":
    """
    Args:
        table: the kind of each code point up to `PAST_LETTERS`, and there that of all behind it.
    """
    import numpy as np

    codes: npt.NDArray[np.uint32 | np.uint8]
    if text.isascii():
        codes = np.frombuffer(text.encode("ascii"), dtype=np.uint8)
    else:
        codes = np.minimum(np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4"), PAST_LETTERS)
    return table[codes]


def as_ascii(text: str) -> str:
    """With an a for each letter and digit of another script, @ for its wide form, and a space for what else is not
    ASCII: as long, and three times as fast to search.
    """
    return kinds_of(text, _ascii_of()).tobytes().decode("ascii")


@cache
def _ascii_of() -> "npt.NDArray[np.uint8]":
    import numpy as np

    found = np.full(PAST_LETTERS + 1, ord(" "), dtype=np.uint8)
    found[:128] = range(128)
    letters = re.finditer(r"\w", "".join(map(chr, range(128, PAST_LETTERS))))
    found[[128 + letter.start() for letter in letters]] = ord("a")
    found[PAST_LETTERS] = ord("a")  # ideographs
    found[ord("＠")] = ord("@")
    return found


def leftmost(begins: "npt.NDArray[np.int64]", ends: "npt.NDArray[np.int64]", since: int) -> list[tuple[int, int]]:
    """Spans in order that do not overlap: where several would, the leftmost and then the longest.

    Args:
        since: none begins before this place.
    """
    import numpy as np

    if since:
        begins, ends = begins[begins >= since], ends[begins >= since]
    if not (begins[1:] >= ends[:-1]).all():
        if not (begins[1:] > begins[:-1]).all():
            # Sorted by one number, which costs half of a sort by two; no span is as wide as this.
            wide = 1 << 8
            order = np.argsort(begins * wide + (begins + wide - ends), kind="stable")
            begins, ends = begins[order], ends[order]
        behind = np.searchsorted(begins, ends).tolist()
        chosen, place = [], 0
        while place < len(behind):
            chosen.append(place)
            place = behind[place]
        begins, ends = begins[chosen], ends[chosen]
    return list(zip(begins.tolist(), ends.tolist(), strict=True))


def in_pieces(
    find: Callable[[str, int], list[tuple[int, int]]], text: str, size: int, most: int
) -> list[tuple[int, int]]:
    """What `find` finds in the whole text, looked for in pieces of `size` until there are `most`.

    Pieces overlap by more than the widest span, and each has the character before it, which a span may not follow.

    Args:
        find: (text, place from which on spans may begin) → spans.
    """
    found: list[tuple[int, int]] = []
    begin = 0
    while begin < len(text) and len(found) < most:
        is_last = begin + size >= len(text)
        left, until = max(begin - 1, 0), len(text) if is_last else begin + size - WIDEST
        spans = find(text[left : begin + size], begin - left)
        found += [(left + first, left + last) for first, last in spans if left + first < until]
        begin = max(until, found[-1][1]) if found else until
    return found
