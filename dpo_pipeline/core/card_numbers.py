"""Where card numbers stand in a text: every group of digits is tried as a beginning, and all at once.

A text of a million digits costs no more than its length: what would be a loop over places is arithmetic on arrays. A
card number has 13 to 19 digits in one piece, or in the groups in which cards print them; it begins with 2 to 6 (ISO/IEC
7812: the industries that issue cards to pay with), and its last digit is Luhn's checksum. So columns of numbers, and
most long ones that are no card numbers, stay.
"""

import sys
import unicodedata
from functools import cache

SHORTEST = 13
GROUPINGS = (
    *((size,) for size in range(SHORTEST, 20)),
    *((4, 4, 4, 4), (4, 4, 4, 4, 1), (4, 4, 4, 4, 2), (4, 4, 4, 4, 3), (4, 6, 5), (4, 6, 4)),
)
GAPS = " .-\u00a0\u00ad\u2002\u2003\u2007\u2009\u200a\u200b\u2010\u2011\u2012\u2013\u2014\u202f\u2060"
"""What people and their programs put between the groups of a number, one or two of them."""
WIDEST_GAP = 2


def card_numbers(text: str) -> list[tuple[int, int]]:
    """(begin, end) of each, in order; where several would overlap, the leftmost and then the longest."""
    if not text.isascii():
        text = text.translate(_decimals())
    if sum(map(text.count, "0123456789")) < SHORTEST:
        return []
    import numpy as np  # not at the top: most texts hold no long number

    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")
    is_gap = np.zeros(max(map(ord, GAPS)) + 2, dtype=bool)
    is_gap[[ord(gap) for gap in GAPS]] = True
    is_digit = codes - 48 < 10
    others = np.cumsum(~(is_digit | is_gap[np.minimum(codes, len(is_gap) - 1)]), dtype=np.int32)
    # By digit: where it stands, its value, and whether a new group or another number begins with it.
    places = np.flatnonzero(is_digit)
    value = (codes[places] - 48).astype(np.int8)
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
    found = []
    for grouping in (each for each in GROUPINGS if len(each) <= len(groups)):
        fits = pays[: len(groups) - len(grouping) + 1].copy()
        for place, wanted in enumerate(grouping):
            fits &= size[place : place + len(fits)] == wanted
        first = np.flatnonzero(fits)
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
def _decimals() -> dict[int, str]:
    """Every other script's digits as ours, one character each."""
    written = (chr(code) for code in range(128, sys.maxunicode + 1))
    return {
        ord(each): str(unicodedata.decimal(each)) for each in written if unicodedata.decimal(each, None) is not None
    }
