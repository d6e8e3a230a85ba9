"""Where card numbers stand in a text: every group of digits is tried as a beginning, and all at once.

A text of a million digits costs no more than its length: what would be a loop over places is arithmetic on arrays. A
card number has 13 to 19 digits in one piece, or in the groups in which cards print them; it begins with 2 to 6 (ISO/IEC
7812: the industries that issue cards to pay with), and its last digit is Luhn's checksum. So columns of numbers, and
most long ones that are no card numbers, stay.
"""

import unicodedata
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

SHORTEST, LONGEST, GROUPED = 13, 19, 4
"""Digits of a number, and of the first of its groups."""
GROUPINGS = (
    *((size,) for size in range(SHORTEST, LONGEST + 1)),
    *((4, 4, 4, 4), (4, 4, 4, 4, 1), (4, 4, 4, 4, 2), (4, 4, 4, 4, 3), (4, 6, 5), (4, 6, 4)),
)
GAPS = " .-\u00a0\u00ad\u2002\u2003\u2007\u2009\u200a\u200b\u2010\u2011\u2012\u2013\u2014\u202f\u2060"
"""What people and their programs put between the groups of a number, one or two of them."""
WIDEST_GAP = 2
PAST_DIGITS = 0x20000
"""No script's digits lie behind this code point: only ideographs, tags and what is for private use do."""
GAP, OTHER = 10, 11
"""What a character is where it is no digit."""


def card_numbers(text: str) -> list[tuple[int, int]]:
    """(begin, end) of each, in order; where several would overlap, the leftmost and then the longest."""
    if text.isascii() and sum(map(text.count, "0123456789")) < SHORTEST:
        return []
    import numpy as np  # not at the top: most texts hold no long number

    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")
    kinds = _kinds()[np.minimum(codes, PAST_DIGITS)]
    # By digit: where it stands, its value, and whether a new group or another number begins with it.
    places = np.flatnonzero(kinds < GAP)
    if len(places) < SHORTEST:
        return []
    value, others = kinds[places], np.cumsum(kinds == OTHER, dtype=np.int32)
    step = np.diff(places, prepend=-WIDEST_GAP - 2)
    broken = (step > 1 + WIDEST_GAP) | (np.diff(others[places], prepend=-1) > 0)
    # By group: its first digit, how many it has, and which number it is of.
    groups = np.flatnonzero(step > 1)
    size = np.diff(groups, append=len(places))
    number = np.cumsum(broken, dtype=np.int32)[groups]
    # Luhn's sum of any stretch is a difference of two sums: one doubles the digits at odd places, one those at even.
    odd = np.arange(len(places)) % 2 == 1
    doubled = np.where(value > 4, 2 * value - 9, 2 * value)
    if_even, if_odd = (
        np.concatenate(([0], np.cumsum(np.where(each, doubled, value), dtype=np.int32))) for each in (odd, ~odd)
    )
    pays = (value[groups] >= 2) & (value[groups] <= 6)
    may_begin = np.flatnonzero(pays & ((size == GROUPED) | ((size >= SHORTEST) & (size <= LONGEST))))
    found = []
    for grouping in GROUPINGS:
        first = may_begin[may_begin <= len(groups) - len(grouping)]
        for place, wanted in enumerate(grouping):
            first = first[size[first + place] == wanted]
        first = first[number[first] == number[first + len(grouping) - 1]]
        begin = groups[first]
        end = begin + sum(grouping)
        total = np.where(odd[end - 1], if_odd[end] - if_odd[begin], if_even[end] - if_even[begin])
        found.append(np.stack((begin, end))[:, total % 10 == 0])
    begin, end = np.concatenate(found, axis=1)
    order = np.lexsort((-end, begin))
    spans: list[tuple[int, int]] = []
    for first_digit, last in zip(places[begin[order]].tolist(), places[end[order] - 1].tolist(), strict=True):
        if not spans or first_digit >= spans[-1][1]:
            spans.append((first_digit, last + 1))
    return spans


@cache
def _kinds() -> "npt.NDArray[np.int8]":
    """Of every code point up to `PAST_DIGITS`: the value of a digit in whatever script, else `GAP` or `OTHER`."""
    import numpy as np

    found = np.full(PAST_DIGITS + 1, OTHER, dtype=np.int8)
    for code in range(PAST_DIGITS):
        value = unicodedata.decimal(chr(code), None)
        if value is not None:
            found[code] = value
    found[[ord(gap) for gap in GAPS]] = GAP
    return found
