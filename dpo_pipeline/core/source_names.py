"""What a source of training data is called, wherever people read of it: pages, model card, registry, terminal."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from dpo_pipeline.in_words import spoken
from dpo_pipeline.settings.collection import FeedbackSource

if TYPE_CHECKING:  # every command of `dpo` comes by here; votes bring numpy
    from dpo_pipeline.core.votes import Source


class SourceName(NamedTuple):
    """`one`: of a single pair or answer, in a list or a choice; `many`: of all that a version was trained on."""

    one: str
    many: str


SOURCE_NAMES: "Mapping[Source | FeedbackSource, SourceName]" = {
    "ui": SourceName("A/B test page", "Votes on the A/B test page"),
    "api": SourceName("Your product (API)", "Votes through the API"),
    "import": SourceName("Imported", "Imported pairs"),
    "simulated": SourceName("Simulated", "Votes of simulated people"),
    "synthetic": SourceName("Synthetic", "Pairs that the loop made itself"),
    "correction": SourceName("Correction", "Corrected answers"),
    "regenerated": SourceName("Asked again", "Answers asked for again, of which the second was liked"),
    "thumb": SourceName("Thumb", "Thumbs"),
    "rating": SourceName("Rating", "Ratings"),
    "both_bad": SourceName("Both bad", "Votes that both answers are bad"),
}
_BY_TEXT = {str(source): names for source, names in SOURCE_NAMES.items()}


def counted(sources: Mapping[str, int]) -> str:
    """ "votes through the API: 3, corrected answers: 1"."""
    names = {source: source_name(source).many for source in sources}
    return ", ".join(f"{names[source][0].lower()}{names[source][1:]}: {count:,}" for source, count in sources.items())


def source_name(source: str) -> SourceName:
    """Of a source as it stands in a log or manifest; one that a later version of this program wrote keeps its word."""
    return _BY_TEXT.get(source) or SourceName(*(spoken(source).capitalize(),) * 2)
