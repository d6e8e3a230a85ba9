"""OpenAI's chat completions and model list, so that its clients work unchanged."""

import time
from collections.abc import AsyncIterator
from typing import Any

import msgspec
from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse

from dpo_pipeline.core.answers import Answer
from dpo_pipeline.errors import RequestError
from dpo_pipeline.serving.bodies import (
    ChatCompletion,
    ChatRequest,
    CompletionChoice,
    CompletionMessage,
    Model,
    ModelList,
    Usage,
)
from dpo_pipeline.serving.chat_call import ChatCall
from dpo_pipeline.serving.routes.parts import Served, errors, visitor, while_connected
from dpo_pipeline.serving.service import FOLLOW_ROLLOUT

router = APIRouter(prefix="/v1", tags=["chat"])
STREAMED: dict[int | str, dict[str, Any]] = {200: {"content": {"text/event-stream": {}}}}


@router.get("/models", responses=errors(401))
def models(service: Served) -> ModelList:
    """`chat` follows the rollout; every served version can be asked for by name."""
    return ModelList(data=[Model(id=name) for name in (FOLLOW_ROLLOUT, *sorted(service.engine.models))])


@router.post(
    "/chat/completions",
    response_model=ChatCompletion,
    responses=STREAMED | errors(401, 404, 413, 429, 500, 503, 504),
)
async def chat(body: ChatRequest, request: Request, service: Served) -> Any:
    """OpenAI's chat completion, whole or streamed. `user` keeps a person on one side of the rollout."""
    asker = visitor(request, service, body.user)
    version = service.version_for(body.model, asker.person)
    messages = tuple(message.as_pair for message in body.messages)
    call = service.chat(version, messages, body.sampling(), asker)
    if body.stream:
        events = call.stream()
        # The first event decides on the status: what fails before it is answered like any other error.
        first = await while_connected(request, anext(events))
        wants_usage = body.stream_options is not None and body.stream_options.include_usage
        chunks = _server_sent(first, events, _common(call), wants_usage)
        return StreamingResponse(chunks, media_type="text/event-stream")
    answer = await while_connected(request, call.answer())
    completion = ChatCompletion(
        id=call.request_id,
        created=int(time.time()),
        model=version,
        choices=[CompletionChoice(message=CompletionMessage(content=answer.text), finish_reason=_reason(answer))],
        usage=_usage(answer),
    )
    # Written out here: FastAPI would check every field of our own answer once more.
    return Response(completion.model_dump_json(), media_type="application/json")


async def _server_sent(
    first: str | Answer, events: AsyncIterator[str | Answer], common: dict[str, Any], wants_usage: bool
) -> AsyncIterator[bytes]:
    """Chunks in OpenAI's form; an error in the middle is a last chunk, because the status is long out."""
    role: dict[str, str] = {"role": "assistant"}
    event = first
    try:
        while not isinstance(event, Answer):
            yield _chunk(common, [{"index": 0, "delta": {**role, "content": event}, "finish_reason": None}])
            role = {}
            event = await anext(events)
        yield _chunk(common, [{"index": 0, "delta": role, "finish_reason": _reason(event)}])
        if wants_usage:
            yield _chunk(common | {"usage": _usage(event).model_dump()}, [])
    except RequestError as error:
        told = {"error": {"message": str(error), "type": "server_error", "code": error.code}}
        yield b"data: " + msgspec.json.encode(told) + b"\n\n"
    yield b"data: [DONE]\n\n"


def _common(call: ChatCall) -> dict[str, Any]:
    """What every chunk of an answer carries."""
    return {
        "id": call.request_id,
        "object": "chat.completion.chunk",
        "created": int(time.time()),
        "model": call.version,
    }


def _chunk(common: dict[str, Any], choices: list[dict[str, Any]]) -> bytes:
    return b"data: " + msgspec.json.encode(common | {"choices": choices}) + b"\n\n"


def _reason(answer: Answer) -> Any:
    return "stop" if answer.finished else "length"


def _usage(answer: Answer) -> Usage:
    total = answer.prompt_tokens + answer.tokens
    return Usage(prompt_tokens=answer.prompt_tokens, completion_tokens=answer.tokens, total_tokens=total)
