"""OpenAI's chat completions and model list, so that its clients work unchanged."""

import logging
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import msgspec
from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse
from fastapi.routing import APIRoute
from pydantic import ValidationError
from starlette.requests import ClientDisconnect

from dpo_pipeline.core.answers import Answer
from dpo_pipeline.request_errors import ClientGone, RequestError
from dpo_pipeline.serving.bodies import UNFORESEEN
from dpo_pipeline.serving.chat_bodies import ChatCompletion, ChatRequest, Model, ModelList
from dpo_pipeline.serving.routes.parts import KEYED, Served, errors, visitor, while_connected
from dpo_pipeline.serving.services.chat_call import ChatCall
from dpo_pipeline.serving.services.chats import FOLLOW_ROLLOUT


class ShortWay(APIRoute):
    """A valid JSON body goes straight to the endpoint; everything else goes FastAPI's way, which says what is wrong.

    Solving dependencies costs FastAPI more than all the rest of a chat completion costs us.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        usual = super().get_route_handler()

        async def handle(request: Request) -> Response:
            # As they came: looking one up through `request.headers` decodes them all.
            if not dict(request.scope["headers"]).get(b"content-type", b"").startswith(b"application/json"):
                return await usual(request)
            try:
                body = ChatRequest.model_validate_json(await request.body())
            except ValidationError:
                return await usual(request)
            except ClientDisconnect:
                raise ClientGone("The client hung up before its request was there.") from None
            answered: Response = await self.endpoint(body, request, request.app.state.serving)
            return answered

        return handle


log = logging.getLogger(__name__)
router = APIRouter(prefix="/v1", tags=["chat"], dependencies=KEYED)
STREAMED: dict[int | str, dict[str, Any]] = {200: {"content": {"text/event-stream": {}}}}


@router.get("/models", summary="The models that can be asked", responses=errors(401))
def models(serving: Served) -> ModelList:
    """`chat` follows the rollout; every served version can be asked for by name."""
    return ModelList(data=[Model(id=name) for name in (FOLLOW_ROLLOUT, *sorted(serving.engine.models))])


async def chat(body: ChatRequest, request: Request, serving: Served) -> Response:
    """OpenAI's chat completion, whole or streamed. `user` keeps a person on one side of the rollout."""
    asker = visitor(request, serving, body.user, simulated=body.source == "simulated")
    messages = tuple(message.as_pair for message in body.messages)
    call = serving.chats.begin(body.model, messages, body.sampling(), asker)
    if body.stream:
        events = call.stream()
        # The first event decides on the status: what fails before it is answered like any other error.
        first = await while_connected(request, anext(events))
        wants_usage = body.stream_options is not None and body.stream_options.include_usage
        chunks = _server_sent(first, events, _common(call, "chat.completion.chunk"), wants_usage)
        return StreamingResponse(chunks, media_type="text/event-stream")
    answer = await while_connected(request, call.answer())
    message = {"role": "assistant", "content": answer.text, "refusal": None}
    choice = {"index": 0, "message": message, "finish_reason": _reason(answer), "logprobs": None}
    completion = {**_common(call, "chat.completion"), "choices": [choice], "usage": _usage(answer)}
    # A `ChatCompletion`, written out here: FastAPI would check every field of our own answer once more.
    return Response(msgspec.json.encode(completion), media_type="application/json")


def add_completions(application: APIRouter) -> None:
    """The one route that is put on the application itself: FastAPI looks longer for one of an included router."""
    application.add_api_route(
        f"{router.prefix}/chat/completions",
        chat,
        methods=["POST"],
        summary="Chat, as OpenAI's API has it",
        response_model=ChatCompletion,
        responses=STREAMED | errors(401, 403, 404, 413, 429, 500, 503, 504),
        dependencies=KEYED,
        tags=list(router.tags),
        route_class_override=ShortWay,
    )


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
            yield _chunk(common | {"usage": _usage(event)}, [])
    except RequestError as error:
        yield _error(str(error), error.code)
    except Exception:
        log.exception("a stream ended in an unforeseen way")
        yield _error(UNFORESEEN, "unforeseen")
    yield b"data: [DONE]\n\n"


def _error(message: str, code: str) -> bytes:
    told = {"error": {"message": message, "type": "server_error", "code": code}}
    return b"data: " + msgspec.json.encode(told) + b"\n\n"


def _common(call: ChatCall, kind: str) -> dict[str, Any]:
    """What an answer and every chunk of it carry."""
    return {
        "id": call.request_id,
        "object": kind,
        "created": int(time.time()),
        "model": call.version,
    }


def _chunk(common: dict[str, Any], choices: list[dict[str, Any]]) -> bytes:
    return b"data: " + msgspec.json.encode(common | {"choices": choices}) + b"\n\n"


def _reason(answer: Answer) -> Any:
    return "stop" if answer.finished else "length"


def _usage(answer: Answer) -> dict[str, int]:
    total = answer.prompt_tokens + answer.tokens
    return {"prompt_tokens": answer.prompt_tokens, "completion_tokens": answer.tokens, "total_tokens": total}
