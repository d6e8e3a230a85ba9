"""What is kept of a comparison, a request and a person, and which prompts may be asked again."""

from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from dpo_pipeline.core.identity import Identity
from dpo_pipeline.core.questions import may_be_asked_again
from dpo_pipeline.core.serving_records import RequestSource
from dpo_pipeline.core.votes import prompt_key

NEWEST_PROMPTS = 500
REQUESTS_LOOKED_AT = 2000


class StoredComparison(msgspec.Struct, frozen=True, kw_only=True):
    """A comparison as it was shown; `event_id` is that of the vote to come."""

    comparison_id: str
    event_id: str
    session_id: str
    prompt: str | list[dict[str, str]]
    category: str
    model_a: str
    model_b: str
    response_a: str
    response_b: str
    left: str
    annotator: str
    source: str
    temperature: float | None
    top_p: float | None
    max_tokens: int | None
    seed: int | None
    propensity: float
    prompt_ratio: float = 1.0
    identity: Identity | msgspec.UnsetType = msgspec.UNSET
    steered: bool = False
    asked_by: str = ""


class Met(NamedTuple):
    """When somebody without a key was first met, and whether as one of too many from an address that day."""

    first_met: float
    crowded: bool


class StoredRequest(msgspec.Struct, frozen=True, kw_only=True):
    """An answered chat request, so that people can say something of it later.

    `prompt` is a text, or the list of messages where there was more than one question. Both it and `answer` are empty
    where texts are not kept; `whole` is false where the answer was stopped.
    """

    request_id: str
    user: str
    version: str
    prompt: str | list[dict[str, str]]
    answer: str = ""
    source: RequestSource = "api"
    identity: Identity | msgspec.UnsetType = msgspec.UNSET
    whole: bool = True


def own_turns(prompt: str | list[dict[str, str]]) -> list[str]:
    """What a person wrote of a prompt."""
    return [prompt] if isinstance(prompt, str) else [turn["content"] for turn in prompt if turn["role"] == "user"]


def askable_prompts(requests: Iterable[StoredRequest]) -> dict[str, str]:
    """Distinct single questions of people, in the order of their requests, and who asked each; at most 500.

    Case and white space make no difference.
    """
    prompts: dict[str, tuple[str, str]] = {}
    for request in requests:
        if may_be_asked_again(request.prompt, request.source):
            text = str(request.prompt).strip()
            prompts.setdefault(prompt_key(text), (text, request.user))
        if len(prompts) == NEWEST_PROMPTS:
            break
    return dict(prompts.values())
