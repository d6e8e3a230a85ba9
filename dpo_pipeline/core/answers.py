"""What is asked of a served version, and what it answered."""

from dataclasses import dataclass

from dpo_pipeline.core.conversation import Messages as Messages
from dpo_pipeline.core.votes import Sampling


@dataclass(frozen=True)
class Ask:
    """One answer wanted of one model; messages are (role, content)."""

    model_id: str
    messages: Messages
    sampling: Sampling


@dataclass(frozen=True)
class Answer:
    """`finished` is false where the answer was cut at its token limit; `adapter` is the sha256 of what gave it."""

    text: str
    prompt_tokens: int
    tokens: int
    finished: bool
    adapter: str | None
