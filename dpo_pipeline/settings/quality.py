"""When a pair is good enough to train on."""

from pydantic import Field

from dpo_pipeline.settings.section import Section


class QualityCriteria(Section):
    """When a pair is good enough to train on. `null` switches a numeric criterion off."""

    min_length_ratio: float | None = Field(0.5, description="len(chosen) > ratio · len(rejected), in characters")
    max_similarity: float | None = Field(0.8, gt=0, le=1, description="similarity(chosen, rejected) < this")
    min_characters: int | None = Field(10, description="both answers longer than this many characters")
    more_detailed: bool = Field(True, description="sentences(chosen) > sentences(rejected); rewards length")
    differ_within_characters: int | None = Field(
        4096, ge=1, description="the answers must differ within this many characters (about 4 · model.max_length)"
    )
    no_template_tokens: bool = Field(True, description="refuse answers that hold chat-template tokens")
    no_self_naming: bool = Field(True, description="refuse answers in which a model names itself")
    no_contradiction: bool = Field(True, description="refuse a vote against the same person's earlier vote on a pair")
    no_repeat: bool = Field(True, description="refuse a person's second, equal vote on the same pair")
    max_annotator_share: float | None = Field(
        0.3, gt=0, le=1, description="largest share of the valid pairs that one person may hold"
    )
    max_anonymous_share: float | None = Field(
        0.05,
        ge=0,
        le=1,
        description="largest share of the valid pairs that people whom nobody vouches for (no key, no login) may hold "
        "together",
    )
    annotator_floor: int = Field(25, ge=0, description="pairs a person may always contribute, whatever the share")
