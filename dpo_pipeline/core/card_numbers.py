"""Where card numbers stand in a text: every group of digits is tried as a beginning, and all at once.

A text of a million digits costs no more than its length: what would be a loop over places is arithmetic on arrays. A
card number has 13 to 19 digits in one piece, or in the groups in which cards print them; it begins with 2 to 6 (ISO/IEC
7812: the industries that issue cards to pay with), and its last digit is Luhn's checksum. So columns of numbers, and
most long ones that are no card numbers, stay.
"""

import unicodedata
from functools import cache
from typing import TYPE_CHECKING

from dpo_pipeline.core.character_kinds import GAPS, LONG, OTHER, PAST_LETTERS, WIDEST_GAP, kinds_of, leftmost

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

SHORTEST, LONGEST = 13, 19
"""Digits of a number."""
GROUPINGS = (
    *((size,) for size in range(SHORTEST, LONGEST + 1)),
    *((4, 4, 4, 4), (4, 4, 4, 4, 1), (4, 4, 4, 4, 2), (4, 4, 4, 4, 3), (4, 6, 5), (4, 6, 4)),
)
GAP = 10
"""What a character is between groups; below it are the digits."""


def card_numbers(text: str, since: int = 0) -> list[tuple[int, int]]:
    """(begin, end) of each, in order; where several would overlap, the leftmost and then the longest.

    Args:
        since: none begins before this place.
    """
    if len(text) < LONG and text.isascii() and sum(map(text.count, "0123456789")) < SHORTEST:
        return []
    import numpy as np  # not at the top: most texts hold no long number

    kinds = kinds_of(text, _kinds())
    is_digit = kinds < GAP
    edges = np.flatnonzero(np.diff(is_digit, prepend=False, append=False))
    begins, ends = edges[::2], edges[1::2]  # of each group of digits
    size = ends - begins
    if size.sum() < SHORTEST:
        return []
    apart = begins[1:] - ends[:-1]
    follows = np.zeros(len(size), dtype=bool)
    """Whether the next group is of the same number: nothing but a gap is between."""
    follows[:-1] = (apart <= WIDEST_GAP) & (kinds[ends[:-1]] == GAP) & (kinds[begins[1:] - 1] == GAP)
    pays = (kinds[begins] >= 2) & (kinds[begins] <= 6)
    tried = [(np.flatnonzero(pays & _grouped(size, follows, grouping)), len(grouping)) for grouping in GROUPINGS]
    if not any(len(first) for first, _ in tried):
        return []
    first = np.concatenate([each for each, _ in tried])
    last = np.concatenate([each + count - 1 for each, count in tried])
    found = _luhn(kinds[is_digit], size, first, last)
    return leftmost(begins[first[found]], ends[last[found]], since)


def without_digits(text: str) -> str:
    """With a # in place of each digit, of whatever script."""
    import numpy as np

    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4").copy()
    codes[kinds_of(text, _kinds()) < GAP] = ord("#")
    return codes.tobytes().decode("utf-32-le", "surrogatepass")


def _grouped(
    size: "npt.NDArray[np.int64]", follows: "npt.NDArray[np.bool_]", grouping: tuple[int, ...]
) -> "npt.NDArray[np.bool_]":
    """By group, whether groups of these sizes begin with it that are of one number."""
    import numpy as np

    fits: npt.NDArray[np.bool_] = size == grouping[0]
    for place, wanted in enumerate(grouping[1:], start=1):
        if not fits.any():
            break
        fits[-place:] = False
        fits[:-place] &= follows[place - 1 : -1] & (size[place:] == wanted)
    return fits


def _luhn(
    digits: "npt.NDArray[np.uint8]",
    size: "npt.NDArray[np.int64]",
    first: "npt.NDArray[np.int64]",
    last: "npt.NDArray[np.int64]",
) -> "npt.NDArray[np.bool_]":
    """Whether the digits from one group to another end in their checksum.

    The sum of any stretch is a difference of two sums: one doubles the digits at odd places, one those at even. Both
    may overflow, which cancels out: no stretch's sum does.
    """
    import numpy as np

    doubled = np.array([2 * digit - 9 * (digit > 4) for digit in range(10)], dtype=np.uint8)[digits]
    sums = np.zeros((2, len(digits) + 1), dtype=np.uint8)
    for parity in (0, 1):
        sums[parity, 1:] = doubled
        sums[parity, 2 - parity :: 2] = digits[1 - parity :: 2]
    np.cumsum(sums, axis=1, dtype=np.uint8, out=sums)
    end_of = np.cumsum(size)
    begin, end = end_of[first] - size[first], end_of[last]
    # The last digit itself is not doubled, so those before it are at every other place.
    row, flat = (end & 1) * (len(digits) + 1), sums.ravel()
    correct: npt.NDArray[np.bool_] = (flat[row + end] - flat[row + begin]) % 10 == 0
    return correct


@cache
def _kinds() -> "npt.NDArray[np.uint8]":
    """Of every code point: the value of a digit in whatever script, else `GAP` or `OTHER`."""
    import numpy as np

    found = np.full(PAST_LETTERS + 1, OTHER, dtype=np.uint8)
    for code in range(PAST_LETTERS):
        value = unicodedata.decimal(chr(code), None)
        if value is not None:
            found[code] = value
    found[[ord(gap) for gap in GAPS]] = GAP
    return found
