"""Where card numbers stand in a text: every group of digits is tried as a beginning, and all at once.

A text of a million digits costs no more than its length: what would be a loop over places and lengths is arithmetic on
arrays. A card number has 13 to 19 digits, begins with 2 to 6 (ISO/IEC 7812: the industries that issue cards to pay
with), and its last digit is Luhn's checksum, so that most long numbers which are no card numbers stay.
"""

import re

SHORTEST, LONGEST, SHORTEST_GROUP = 13, 19, 3
GAPS = " \t\n\r./_-\u00a0\u00ad\u2002\u2003\u2007\u2009\u200a\u200b\u2010\u2011\u2012\u2013\u2014\u202f\u2060"
"""What people and their programs put between the groups of a number, one or two of them."""
WIDEST_GAP = 2
_FEW = 4096
_RUN = re.compile(rf"\d(?:[{re.escape(GAPS)}]{{0,{WIDEST_GAP}}}\d){{{SHORTEST - 1}}}")


def card_numbers(text: str) -> list[tuple[int, int]]:
    """(begin, end) of each, in order; where several would overlap, the leftmost and then the longest.

    Groups of fewer than three digits belong to a number only where all between other characters is that number.
    """
    if sum(map(text.count, "0123456789")) < SHORTEST or (len(text) < _FEW and not _RUN.search(text)):
        return []
    import numpy as np  # not at the top: most texts hold no long number

    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")
    is_gap = np.zeros(max(map(ord, GAPS)) + 2, dtype=bool)
    is_gap[[ord(gap) for gap in GAPS]] = True
    is_digit = codes - 48 < 10
    others = np.cumsum(~(is_digit | is_gap[np.minimum(codes, len(is_gap) - 1)]), dtype=np.int32)
    # From here on by digit: where it stands, its value, and what separates it from the next one.
    places = np.flatnonzero(is_digit)
    value = (codes[places] - 48).astype(np.int8)
    step = np.diff(places)
    parted, broken = step > 1, (step > 1 + WIDEST_GAP) | (np.diff(others[places]) > 0)
    true = np.array([True])
    run = np.concatenate(([0], np.cumsum(broken, dtype=np.int32)))
    ends_group, begins_run, ends_run = map(np.concatenate, ((parted, true), (true, broken), (broken, true)))
    groups = np.flatnonzero(np.concatenate((true, parted)))
    size = np.diff(np.append(groups, len(places)))
    short = np.cumsum(np.repeat(size < SHORTEST_GROUP, size), dtype=np.int32)
    # Luhn's sum of any stretch is a difference of two sums: one doubles the digits at odd places, one those at even.
    odd = np.arange(len(places)) % 2 == 1
    doubled = np.where(value > 4, 2 * value - 9, 2 * value)
    sum_ending_even, sum_ending_odd = (
        np.concatenate(([0], np.cumsum(np.where(each, doubled, value), dtype=np.int32))) for each in (odd, ~odd)
    )
    first_digit = value[groups]
    begins = groups[(first_digit >= 2) & (first_digit <= 6) & ((size >= SHORTEST_GROUP) | begins_run[groups])]
    found = []
    for length in range(SHORTEST, LONGEST + 1):
        begin = begins[begins + length <= len(places)]
        end = begin + length - 1
        whole = ends_group[end] & (run[begin] == run[end])
        begin, end = begin[whole], end[whole]
        even, ends_odd = (each[end + 1] - each[begin] for each in (sum_ending_even, sum_ending_odd))
        right = np.where(odd[end], ends_odd, even) % 10 == 0
        grouped = (short[begin] == short[end]) | (begins_run[begin] & ends_run[end])
        found.append(np.stack((begin, end))[:, right & grouped])
    begin, end = np.concatenate(found, axis=1)
    order = np.lexsort((-end, begin))
    spans: list[tuple[int, int]] = []
    for first, last in zip(places[begin[order]].tolist(), places[end[order]].tolist(), strict=True):
        if not spans or first >= spans[-1][1]:
            spans.append((first, last + 1))
    return spans
