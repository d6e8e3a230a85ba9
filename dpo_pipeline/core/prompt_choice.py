"""Which of the questions that people ask is worth most to compare answers on: of the kinds that are known least.

Kinds are found by what questions have in common: parts of their words, weighed by how rare they are, in clusters. One
more vote is worth what it narrows the estimate of its kind by, as in `core.matchmaking`. How much more often than by an
even draw a question was drawn goes into the log with the vote, so that estimates can be weighed back.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence

from dpo_pipeline.core.matchmaking import PairTally, gain

FEWEST, MOST_KINDS = 20, 20
"""Of fewer questions there is one kind only; of many there are no more kinds than votes can be told apart by."""


def kinds(questions: Sequence[str]) -> list[int]:
    """The kind of each question, as a number; the same for the same questions."""
    if len(questions) < FEWEST:
        return [0] * len(questions)
    from sklearn.cluster import KMeans  # not at the top: it takes a second, and few want it
    from sklearn.feature_extraction.text import TfidfVectorizer

    weighed = TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 4), sublinear_tf=True, max_features=20_000)
    count = min(MOST_KINDS, max(2, round(math.sqrt(len(questions) / 2))))
    found = KMeans(count, n_init=3, random_state=0).fit_predict(weighed.fit_transform(questions))
    return [int(kind) for kind in found]


def by_kind(kind_of: Mapping[str, int], voted: Mapping[str, PairTally]) -> dict[int, PairTally]:
    """Votes on each kind, from those on each question."""
    found: dict[int, PairTally] = {}
    for question, kind in kind_of.items():
        if given := voted.get(question):
            found[kind] = found.get(kind, PairTally()) + given
    return found


def ratios(kind_of: Sequence[int], tallies: Mapping[int, PairTally], share: float) -> list[float]:
    """How many times as likely as by an even draw each question is to be drawn; their mean is 1.

    Args:
        kind_of: by question.
        tallies: votes so far on questions of each kind, the wins being the newer version's.
        share: of the draws, those that go by what a vote tells; the others are even.
    """
    size = Counter(kind_of)
    gains = {kind: gain(tallies.get(kind, PairTally())) for kind in size}
    total = sum(gains.values())
    by_kind = {kind: gains[kind] / total * len(kind_of) / size[kind] for kind in size}
    return [1 - share + share * by_kind[kind] for kind in kind_of]
