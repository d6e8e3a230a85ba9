"""Every source has a name for people, in one place."""

from typing import get_args

from dpo_pipeline.core.source_names import SOURCE_NAMES, source_name
from dpo_pipeline.core.votes import Source
from dpo_pipeline.settings.collection import FeedbackSource


def test_every_source_is_named_once_and_none_by_its_word_in_the_log() -> None:
    assert list(SOURCE_NAMES) == [*get_args(Source), *get_args(FeedbackSource)]
    for names in zip(*SOURCE_NAMES.values(), strict=True):
        assert len(set(names)) == len(SOURCE_NAMES) and not {"ui", "api", "both_bad"} & set(names)
    assert source_name("thumb").many == "Thumbs" and source_name("seen_twice").one == "Seen twice"
