"""Chats and models as they go over the wire, in OpenAI's own form."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from dpo_pipeline.core.admission import MOST_MESSAGES
from dpo_pipeline.core.votes import Sampling
from dpo_pipeline.serving.bodies import OpenAIMessage, SamplingFields, shown_in_docs

UNSUPPORTED: dict[str, tuple[Any, ...]] = {
    "n": (1,), "best_of": (1,), "tools": ([],), "tool_choice": ("none", "auto"), "functions": ([],),
    "function_call": ("none", "auto"), "response_format": ({"type": "text"},), "modalities": (["text"],),
    "stop": ([], ""), "logprobs": (False,), "top_logprobs": (0,), "logit_bias": ({},),
    "frequency_penalty": (0,), "presence_penalty": (0,), "repetition_penalty": (1,), "top_k": (0, -1), "min_p": (0,),
}  # fmt: skip
"""What other servers do for a request and we do not, with the values that ask for nothing."""


class StreamOptions(BaseModel):
    include_usage: bool = False


class ChatRequest(SamplingFields):
    """OpenAI's request. What would change the answer and is not done here is refused; the rest is ignored."""

    model_config = ConfigDict(
        extra="ignore",
        json_schema_extra=shown_in_docs(
            {"model": "chat", "messages": [{"role": "user", "content": "What can you help me with?"}]}
        ),
    )

    model: str = Field("chat", max_length=100, description="`chat` follows the rollout; `v1.1` is explicit")
    messages: list[OpenAIMessage] = Field(min_length=1, max_length=MOST_MESSAGES)
    user: str = Field("", max_length=200, description="keeps a person on one side of the rollout")
    max_completion_tokens: int | None = Field(None, ge=1, description="newer name of max_tokens")
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    source: Literal["api", "simulated"] = Field("api", description="`simulated`: not a person; marked wherever kept")

    @model_validator(mode="before")
    @classmethod
    def _only_what_is_done(cls, given: Any) -> Any:
        asked = given if isinstance(given, dict) else {}
        wanted = [
            name for name in UNSUPPORTED.keys() & asked.keys()
            if asked[name] is not None and asked[name] not in UNSUPPORTED[name]
        ]  # fmt: skip
        if wanted:
            raise ValueError(
                f"{', '.join(sorted(wanted))} cannot be asked for here; leave it out. What can: "
                + ", ".join(cls.model_fields)
            )
        return given

    def sampling(self) -> Sampling:
        return self._sampling(self.max_completion_tokens or self.max_tokens)


class CompletionMessage(BaseModel):
    role: Literal["assistant"] = "assistant"
    content: str
    refusal: str | None = None


class CompletionChoice(BaseModel):
    index: int = 0
    message: CompletionMessage
    finish_reason: Literal["stop", "length"]
    logprobs: None = None


class Usage(BaseModel):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class ChatCompletion(BaseModel):
    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[CompletionChoice]
    usage: Usage


class Model(BaseModel):
    id: str
    object: Literal["model"] = "model"
    created: int = 0
    owned_by: str = "dpo-pipeline"


class ModelList(BaseModel):
    object: Literal["list"] = "list"
    data: list[Model]
