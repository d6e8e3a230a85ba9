"""How comparisons are made and votes collected."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from dpo_pipeline.settings.section import Section

FeedbackSource = Literal["correction", "regenerated", "thumb", "rating", "both_bad"]
"""Feedback that is trained on: the first two as pairs, the others as labelled answers."""


class Collection(Section):
    redactor: str = Field(
        "",
        description="module:function, text to text, that takes more personal data out of what is stored than the "
        "patterns here find, such as names; empty: none",
    )
    feedback_shares: dict[FeedbackSource, Annotated[float, Field(ge=0, le=1)]] = Field(
        {"correction": 1.0, "regenerated": 1.0, "thumb": 1.0, "rating": 1.0, "both_bad": 1.0},
        description="how much of what people say of answers is trained on, by kind; 0 or left out: nothing of it",
    )
    retain_texts_days: int = Field(
        90,
        ge=0,
        description="days for which questions and answers of chats are kept, without personal data, and can be spoken "
        "of; 0: neither is kept, so nothing that is said of them is trained on",
    )
    temperature: float = Field(
        0.9,
        ge=0,
        le=2,
        description="how two answers of one version are drawn for a comparison: warm, so that they differ",
    )
    top_p: float = Field(0.95, gt=0, le=1, description="likewise; two versions are compared as production answers")
    samples: int = Field(
        4,
        ge=2,
        le=16,
        description="answers of one version drawn for a comparison; shown are the first and the one beside it whose "
        "vote can most likely be trained on",
    )
    token_valid_h: float = Field(24, gt=0, description="how long a comparison may be voted on")
    holdout_share: float = Field(0.25, gt=0, lt=1, description="share of the bank kept for evaluation, never asked")
    production_share: float = Field(
        0.2, ge=0, le=1, description="share of drawn questions that come from chat requests; none yet: from the bank"
    )
    worth_share: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="share of the draws from chat requests that go to the kinds of questions that are known least, on "
        "which a vote tells most; the others are even, as all are where this is 0",
    )
    edge_case_share: float = Field(
        0.1, ge=0, le=1, description="share of drawn questions that are edge cases; none there: from the bank"
    )
    repeat_share: float = Field(
        0.03, ge=0, lt=1, description="share of drawn comparisons that were decided before: how often votes flip"
    )
    shadow_ballot_share: float = Field(
        0.5,
        ge=0,
        le=1,
        description="share of comparisons, while a version is in staging, on what production was asked: the champion's "
        "answer beside the version's shadow copy",
    )
    repeat_after_s: float = Field(60, ge=0, description="seconds after which a decided pair may be shown again")
    measure_share: float = Field(
        0.1, ge=0, lt=1, description="share of comparisons for pairs of versions other than the one that is due"
    )
    daily_target: int = Field(100, ge=1, description="votes a day that the pages show progress towards")
    max_line_bytes: int = Field(1_048_576, ge=1024, description="longest line of the log; longer ones are quarantined")

    @model_validator(mode="after")
    def _leave_room(self) -> "Collection":
        if self.production_share + self.edge_case_share > 1:
            raise ValueError("production_share and edge_case_share are more than 1 together; lower one of them")
        return self
