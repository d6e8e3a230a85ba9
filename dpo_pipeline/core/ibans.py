"""Where bank account numbers stand in a text: as `card_numbers` looks for them, in all places at once.

An IBAN (ISO 13616) is a country, two check digits and up to thirty letters and digits, whole or in groups of four as it
is printed; its length is the country's, and rearranged as a number it is 1 modulo 97.
"""

import re
from functools import cache
from typing import TYPE_CHECKING

from dpo_pipeline.core.character_kinds import GAPS, LONG, OTHER, PAST_LETTERS, WIDEST_GAP, kinds_of, leftmost

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import numpy.typing as npt

    Group = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]
    """By candidate, where one of its groups begins and how many characters it has."""

LENGTHS = {
    15: "NO", 16: "BE", 18: "DK FI FK FO GL NL SD", 19: "MK SI", 20: "AT BA EE KZ LT LU MN XK", 21: "CH HR LI LV",
    22: "BG BH CR DE GB GE IE ME RS VA", 23: "AE GI IL IQ OM SO TL", 24: "AD CZ ES MD PK RO SA SE SK TN VG",
    25: "LY PT ST", 26: "IS TR", 27: "BI DJ FR GR IT MC MR SM", 28: "AL AZ BY CY DO GT HN HU LB NI PL SV",
    29: "BR EG PS QA UA", 30: "JO KW MU YE", 31: "MT SC", 32: "LC", 33: "RU",
}  # fmt: skip
"""Characters by country, from the IBAN registry."""
SHORTEST, LONGEST, HEAD, GROUPED = min(LENGTHS), max(LENGTHS), 4, 4
TEN, LETTERS = 10, 36
"""Below these are digits, and letters by their value: A is 10, as ISO 13616 counts."""
GAP = LETTERS
_HEAD = re.compile(r"[0-9](?<=[A-Za-z]{2}[0-9])[0-9]")
"""Looked for from its first digit on, since letters are everywhere."""


def ibans(text: str, since: int = 0) -> list[tuple[int, int]]:
    """(begin, end) of each, in order; letters may be small, and no other letter or digit stands beside it.

    Args:
        since: none begins before this place.
    """
    if len(text) < LONG and not _HEAD.search(text):
        return []
    import numpy as np  # not at the top: most texts hold none

    kinds = np.pad(kinds_of(text, _kinds()), (1, LONGEST), constant_values=OTHER)
    is_either, is_digit = kinds < LETTERS, kinds < TEN
    is_letter = is_either ^ is_digit
    head = is_digit[4:] & is_digit[3:-1] & is_letter[2:-2] & is_letter[1:-3] & ~is_either[:-4]
    begins = np.flatnonzero(head) + 1
    lengths = _lengths()[kinds[begins], kinds[begins + 1]]
    begins, left = begins[lengths > 0], lengths[lengths > 0] - HEAD
    if not len(begins):
        return []
    gap, run = _row(kinds == GAP, WIDEST_GAP), _row(is_either, GROUPED)
    place = begins + HEAD
    groups: list[Group] = []
    while left.any():
        place = place + np.where(left > 0, gap[place], 0)
        read = np.minimum(left, GROUPED)
        groups.append((place, read))
        whole, place, left = run[place] >= read, place + read, left - read
        if not whole.all():
            groups = [(at[whole], count[whole]) for at, count in groups]
            begins, place, left = begins[whole], place[whole], left[whole]
    alone = ~is_either[place]
    groups = [(at[alone], count[alone]) for at, count in groups]
    begins, ends = begins[alone], place[alone]
    found = _remainder(kinds, begins, groups) == 1
    return leftmost(begins[found] - 1, ends[found] - 1, since)


def _row(these: "npt.NDArray[np.bool_]", most: int) -> "npt.NDArray[np.uint8]":
    """From each place on, how many of these stand in a row, counted up to `most`."""
    import numpy as np

    row, all_so_far = these.astype(np.uint8), these
    for ahead in range(1, most):
        all_so_far = all_so_far[:-1] & these[ahead:]
        row[:-ahead] += all_so_far
    return row


def _remainder(
    kinds: "npt.NDArray[np.uint8]",
    begins: "npt.NDArray[np.int64]",
    groups: "Sequence[Group]",
) -> "npt.NDArray[np.uint32]":
    """Modulo 97, of the number that is read from what stands behind the head and then from the head.

    Each place's one to four characters are such a number too: they are worked out for all places in a row, which costs
    less than to go to them candidate by candidate.
    """
    import numpy as np

    of_one, of_two = _values()
    codes = np.minimum(kinds, GAP).astype(np.uint16)
    one, two = of_one[codes], of_two[codes[:-1] * np.uint16(GAP + 1) + codes[1:]]
    read = {1: one, 2: two, 3: _joined(two, one, 2), 4: _joined(two, two, 2)}
    rest = np.zeros(len(begins), dtype=np.uint32)
    for place, count in [*groups, (begins, np.full(len(begins), HEAD))]:
        for many, number in read.items():
            these = np.flatnonzero(count == many)
            if len(these) == len(count):
                there = number[place]
                rest = (rest * (there >> 16) + (there & 0xFFFF)) % 97
            elif len(these):
                there = number[place[these]]
                rest[these] = (rest[these] * (there >> 16) + (there & 0xFFFF)) % 97
    return rest


def _joined(first: "npt.NDArray[np.uint32]", second: "npt.NDArray[np.uint32]", ahead: int) -> "npt.NDArray[np.uint32]":
    """What stands at each place and, so far ahead, behind it, as `_values` writes it: no number exceeds 96 · 97."""
    first, second = first[: len(second) - ahead], second[ahead:][: len(first)]
    shift, value = first >> 16, first & 0xFFFF
    joined: npt.NDArray[np.uint32] = (shift * (second >> 16)) << 16 | (value * (second >> 16) + (second & 0xFFFF))
    return joined


@cache
def _values() -> "tuple[npt.NDArray[np.uint32], npt.NDArray[np.uint32]]":
    """Of one character, and of two (first · 37 + second): by how much it moves what is before it, times 65,536, and its
    own value, both modulo 97.
    """
    import numpy as np

    one = np.arange(GAP + 1)
    shift = np.where(one < TEN, 10, 100)
    of_one = (shift % 97) << 16 | one
    of_two = (shift[:, None] * shift % 97) << 16 | (one[:, None] * shift + one) % 97
    return of_one.astype(np.uint32), of_two.ravel().astype(np.uint32)


@cache
def _kinds() -> "npt.NDArray[np.uint8]":
    """Of every code point: the value of a digit or letter of ASCII, else `GAP` or `OTHER`."""
    import numpy as np

    found = np.full(PAST_LETTERS + 1, OTHER, dtype=np.uint8)
    for value, character in enumerate("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"):
        found[[ord(character), ord(character.lower())]] = value
    found[[ord(gap) for gap in GAPS]] = GAP
    return found


@cache
def _lengths() -> "npt.NDArray[np.int64]":
    """By the two letters of the country, as values; 0 where there is none of that name."""
    import numpy as np

    found = np.zeros((LETTERS, LETTERS), dtype=np.int64)
    for length, countries in LENGTHS.items():
        for country in countries.split():
            found[ord(country[0]) - ord("A") + TEN, ord(country[1]) - ord("A") + TEN] = length
    return found
