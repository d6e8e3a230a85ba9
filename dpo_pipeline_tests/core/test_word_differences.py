"""Word by word: both texts whole, and marked only what the other lacks."""

import time

from hypothesis import given
from hypothesis import strategies as st

from dpo_pipeline.core.word_differences import word_differences

WORDS = st.lists(st.sampled_from(["a", "b", "c\n", " d", "é"]), max_size=20).map(" ".join)


def test_words_that_the_other_text_lacks_are_marked() -> None:
    ours, theirs = word_differences("Cats purr  when they rest.", "Cats sleep when they rest.")
    assert ours == [("Cats ", False), ("purr  ", True), ("when they rest.", False)]
    assert theirs == [("Cats ", False), ("sleep ", True), ("when they rest.", False)]


@given(WORDS, WORDS)
def test_nothing_is_lost_and_equal_texts_have_no_marks(first: str, second: str) -> None:
    for text, spans in zip((first, second), word_differences(first, second), strict=True):
        assert "".join(said for said, _ in spans) == text
    assert not any(differs for spans in word_differences(first, first) for _, differs in spans)
    shared = [[word for said, differs in each if not differs for word in said.split()]
              for each in word_differences(first, second)]  # fmt: skip
    assert shared[0] == shared[1]


def test_long_texts_are_not_compared() -> None:
    began = time.process_time()
    word_differences("a b " * 1_200, "b c " * 1_200)
    word_differences(" " * 32_000, "\n" * 32_000)
    assert word_differences("a " * 5_000, "b") == ([("a " * 5_000, False)], [("b", False)])
    assert time.process_time() - began < 2
