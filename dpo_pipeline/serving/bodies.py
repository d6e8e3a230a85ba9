"""What goes over the wire, as types: FastAPI checks requests against them and describes them in `/docs`."""

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from dpo_pipeline.core.admission import LONGEST_REASON, LONGEST_TEXT, MOST_MESSAGES, ROLES, can_be_written
from dpo_pipeline.core.feedback import Action
from dpo_pipeline.core.votes import Category, Choice, ReasonTag, Sampling, Strength, VoteReason

MOST_FIELDS = 100
UNFORESEEN = "The server met an error that nobody foresaw. Its log says more; report it if it comes again."
SMALLEST_TOP_P = 1e-6
SEEDS = 2**31
"""Seeds that the engine tells apart; another one of 64 bits stands for what is left of it."""


def shown_in_docs(fields: dict[str, Any]) -> dict[str, Any]:
    """What `/docs` sends where nobody types anything else; made up from the types, it would mean nothing."""
    return {"examples": [fields]}


class Body(BaseModel):
    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _null_is_absent(cls, given: Any) -> Any:
        if isinstance(given, dict) and len(given) > MOST_FIELDS:
            raise ValueError(f"{len(given)} fields were found; at most {MOST_FIELDS} fit")
        if isinstance(given, dict) and None in given.values():
            return {name: value for name, value in given.items() if value is not None}
        return given

    @model_validator(mode="after")
    def _texts_can_be_written(self) -> Self:
        for name, value in self.__dict__.items():
            for text in value if isinstance(value, list) else [value]:
                if isinstance(text, str) and not can_be_written(text):
                    raise ValueError(f"{name} holds half a surrogate pair, which is no text")
        return self


class ErrorDetail(BaseModel):
    message: str
    type: str
    code: str


class ErrorResponse(BaseModel):
    """The form of every error, OpenAI's. `message` says what to do."""

    error: ErrorDetail


class ChatMessage(Body):
    role: Literal["system", "user", "assistant"]
    content: str = Field(max_length=LONGEST_TEXT)


class TextPart(Body):
    model_config = ConfigDict(extra="ignore")

    type: Literal["text"]
    text: str = Field(max_length=LONGEST_TEXT)


def _role(given: Any) -> Any:
    return ROLES.get(given.casefold(), given) if isinstance(given, str) else given


class OpenAIMessage(Body):
    """A message as OpenAI's clients send it: content may come in parts, and carries fields we do not use."""

    model_config = ConfigDict(extra="ignore")

    role: Annotated[Literal["system", "user", "assistant"], BeforeValidator(_role)] = Field(
        description="other names of these are taken too: developer, human, model"
    )
    content: Annotated[str, Field(max_length=LONGEST_TEXT)] | Annotated[list[TextPart], Field(max_length=100)]

    @model_validator(mode="after")
    def _parts_are_no_longer_than_a_text(self) -> Self:
        if len(self.as_pair[1]) > LONGEST_TEXT:
            raise ValueError(f"content has {len(self.as_pair[1])} characters in its parts; at most {LONGEST_TEXT} fit")
        return self

    @property
    def as_pair(self) -> tuple[str, str]:
        """(role, content) in the words of chat templates."""
        text = self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)
        return self.role, text


class SamplingFields(Body):
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, ge=0, le=1, description="0: the smallest share there is, as OpenAI takes it")
    max_tokens: int | None = Field(None, ge=1, description="at most model.max_new_tokens are generated")
    seed: int | None = Field(None, ge=-(2**63), lt=2**64, description="-1: drawn, as if none were given")

    def sampling(self) -> Sampling:
        return self._sampling(self.max_tokens)

    def _sampling(self, max_tokens: int | None) -> Sampling:
        top_p = None if self.top_p is None else max(self.top_p, SMALLEST_TOP_P)
        seed = None if self.seed in (None, -1) else int(self.seed or 0) % SEEDS
        return Sampling(self.temperature, top_p, max_tokens, seed)


class ComparisonRequest(SamplingFields):
    """A question for two or more versions. Without `models` the server picks two."""

    model_config = ConfigDict(json_schema_extra=shown_in_docs({"prompt": "What can you help me with?"}))

    prompt: (
        Annotated[str, Field(min_length=1, max_length=LONGEST_TEXT)]
        | Annotated[list[OpenAIMessage], Field(min_length=1, max_length=MOST_MESSAGES)]
    )
    category: Category = "other"
    models: list[Annotated[str, Field(max_length=100)]] | None = Field(None, min_length=2, max_length=6)
    annotator: str = Field("", max_length=200)
    session_id: str = Field("", max_length=200)
    source: Literal["api", "simulated"] = "api"


class Answers(Body):
    left: str
    right: str


class ComparisonResponse(Body):
    """Two answers, blind. `more` holds the other pairs where more than two versions were asked for."""

    comparison_id: str
    token: str
    prompt: str | list[ChatMessage]
    category: str
    answers: Answers
    expires_at: str
    more: list["ComparisonResponse"] = []


class VoteRequest(Body):
    model_config = ConfigDict(
        json_schema_extra=shown_in_docs({"token": "as it came with the comparison", "vote": "left"})
    )

    token: str = Field(max_length=2000)
    vote: Choice
    annotator: str | None = Field(None, max_length=200, description="who votes; must be whom the comparison is for")
    strength: Strength | None = Field(None, description="how much better the chosen answer is")
    reason_tags: list[ReasonTag] = Field([], max_length=5, description="what it has over the other")
    reason: str = Field("", max_length=LONGEST_REASON, description="why, in the person's own words")

    @property
    def why(self) -> VoteReason:
        return VoteReason(self.strength, tuple(dict.fromkeys(self.reason_tags)), self.reason.strip())


class VotedModels(Body):
    left: str
    right: str


class VoteResponse(Body):
    event_id: str
    models: VotedModels


class FeedbackRequest(Body):
    """Exactly one of rating, thumb, correction, comment and action."""

    model_config = ConfigDict(
        json_schema_extra=shown_in_docs({"request_id": "chatcmpl-… of the answer", "thumb": "up"})
    )

    request_id: str = Field(max_length=200, description="`id` of the chat completion")
    rating: int | None = Field(None, ge=1, le=5, strict=True)
    thumb: Literal["up", "down"] | None = None
    correction: str | None = Field(None, min_length=1, max_length=LONGEST_TEXT, description="what it should have said")
    comment: str | None = Field(None, min_length=1, max_length=LONGEST_TEXT, description="in the person's own words")
    action: Action | None = Field(None, description="what the person did with the answer")


class FeedbackResponse(Body):
    event_id: str


class RolloutOrder(Body):
    model_config = ConfigDict(json_schema_extra=shown_in_docs({"reason": "Answers were too short in support."}))

    reason: str = Field(min_length=3, max_length=LONGEST_REASON, description="why; it is kept in the history")


class RolloutState(BaseModel):
    version: str | None
    champion: str | None
    stage: str | None
    traffic: float
    paused: bool
    epoch: int
    evidence: dict[str, Any] | None
    history: list[dict[str, Any]]
    earlier: int | None
