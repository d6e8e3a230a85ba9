"""What another server sends for an answer, read strictly: pieces of text, one whole end, or the reason why it is none.

Server-sent events are `httpx-sse`'s, and split at line feeds and carriage returns only. An answer is whole where the
server says why it ended, or says `[DONE]`. One that was not streamed is taken where it is a whole completion.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import Any

import httpx
import msgspec
from httpx_sse import EventSource

from dpo_pipeline.core.admission import LONGEST_TEXT
from dpo_pipeline.core.redaction import cut
from dpo_pipeline.ml.bounded_call import packed_as
from dpo_pipeline.request_errors import InvalidRequest, ModelNotHeld, QueueFull, UpstreamFailed

DONE = "[DONE]"
DRAIN_S = 1.0
"""For what stands behind the end of an answer: read to the end, the connection can be used again."""
_HIGH = range(0xD800, 0xDC00)


class _Usage(msgspec.Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class _Text(msgspec.Struct):
    content: str | None = None


class _Choice(msgspec.Struct):
    delta: _Text | None = None
    message: _Text | None = None
    finish_reason: str | None = None


class _Chunk(msgspec.Struct):
    """A chunk of a stream, or a whole completion. What is null is absent; what is of another type is refused."""

    choices: list[_Choice] | None = None
    usage: _Usage | None = None
    error: Any = None


@dataclass(frozen=True)
class End:
    """The answer is whole. `finished`: it ended by itself; tokens are null where the server did not count them."""

    finished: bool
    prompt_tokens: int | None
    tokens: int | None


async def read_answer(response: httpx.Response, most_bytes: int, secret: str = "") -> AsyncGenerator[str | End]:
    """Pieces of text as they come, and last the end.

    Args:
        most_bytes: of one answer, with the JSON around each piece.
        secret: our key, which is in no error.

    Raises:
        InvalidRequest: the other server says that the request is at fault.
        QueueFull: it has no room.
        ModelNotHeld: it knows no model of this name.
        UpstreamFailed: it failed, or sent what is no whole answer.
    """
    if isinstance(response.stream, httpx.AsyncByteStream):
        response.stream = _Capped(response.stream, most_bytes)
    if packed := packed_as(response.headers):
        raise UpstreamFailed(f"The other server packed its answer ({packed}), which it was asked not to do.")
    if response.status_code != 200:
        raise _refusal(response.status_code, cut((await response.aread()).decode(errors="replace"), secret))
    kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    reader = _Reader(secret)
    if kind == "application/json":
        chunk = _decoded((await response.aread()).decode(errors="replace"), secret)
        if not chunk.choices or chunk.choices[0].message is None or chunk.choices[0].finish_reason is None:
            raise UpstreamFailed("The other server answered without streaming, and not with a whole completion.")
        yield reader.text(chunk) + reader.rest()
        yield reader.end()
        return
    # Servers in the wild stream under `text/plain` too, or name no type at all: the events decide then.
    if kind not in ("text/event-stream", "text/plain", ""):
        said = (await response.aread()).decode(errors="replace")
        raise UpstreamFailed(
            f"The other server answered with {kind}, where server-sent events were required: {cut(said, secret)}"
        )
    response.headers["content-type"] = "text/event-stream"
    async with aclosing(EventSource(response).aiter_sse()) as events:
        async for event in events:
            if event.data.strip() == DONE:
                reader.done = True
                await _drain(events)
                break
            if event.data.strip() and (piece := reader.text(_decoded(event.data, secret))):
                yield piece
    if not reader.whole:
        raise UpstreamFailed("The other server broke off: its stream ended without finish_reason and without [DONE].")
    if rest := reader.rest():
        yield rest
    yield reader.end()


async def _drain(events: AsyncIterator[object]) -> None:
    with suppress(TimeoutError, httpx.HTTPError, UpstreamFailed):
        async with asyncio.timeout(DRAIN_S):
            async for _ in events:
                pass


class _Capped(httpx.AsyncByteStream):
    """A body that ends with an error where it would be endless."""

    def __init__(self, stream: httpx.AsyncByteStream, most_bytes: int):
        self._stream, self._most_bytes = stream, most_bytes

    async def __aiter__(self) -> AsyncIterator[bytes]:
        seen = 0
        async for chunk in self._stream:
            seen += len(chunk)
            if seen > self._most_bytes:
                raise UpstreamFailed(f"The other server sent more than {self._most_bytes:,} bytes for one answer.")
            yield chunk

    async def aclose(self) -> None:
        await self._stream.aclose()


class _Reader:
    """What the chunks so far amount to."""

    def __init__(self, secret: str) -> None:
        self.done, self._reason, self._usage, self._half = False, "", _Usage(), ""
        self._left, self._secret = LONGEST_TEXT, secret

    @property
    def whole(self) -> bool:
        return self.done or bool(self._reason)

    def text(self, chunk: _Chunk) -> str:
        """The text of one chunk. Half of a surrogate pair at its end waits for the other half."""
        if chunk.error is not None:
            raise UpstreamFailed(f"The other server broke off: {cut(str(chunk.error), self._secret)}")
        self._usage = chunk.usage or self._usage
        if not chunk.choices:
            return ""
        choice = chunk.choices[0]
        self._reason = choice.finish_reason or self._reason
        said = (choice.delta or choice.message or _Text()).content or ""
        self._left -= len(said)
        if self._left < 0:
            raise UpstreamFailed(f"The other server said more than {LONGEST_TEXT:,} characters in one answer.")
        text = self._half + said
        self._half = text[-1:] if text and ord(text[-1]) in _HIGH else ""
        return _joined(text[: len(text) - len(self._half)])

    def rest(self) -> str:
        """A half without its other half, at the very end."""
        return _joined(self._half)

    def end(self) -> End:
        return End(self._reason in ("stop", ""), self._usage.prompt_tokens, self._usage.completion_tokens)


def _joined(text: str) -> str:
    """Surrogate pairs as their characters; what is left alone becomes U+FFFD."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _decoded(text: str, secret: str) -> _Chunk:
    try:
        chunk = msgspec.convert(json.loads(text), _Chunk)
    except (ValueError, RecursionError) as error:
        raise UpstreamFailed(
            f"The other server sent what is no chunk of an answer ({error}): {cut(text, secret)}"
        ) from error
    return chunk


def _refusal(status: int, body: str) -> Exception:
    said = f"The other server answered {status}: {body}"
    if status == 429:
        return QueueFull(said)
    if status in (400, 413, 422):
        return InvalidRequest(said)
    if status == 404:
        return ModelNotHeld(f"{said} It does not serve this version: load it there, or set engine.names.")
    return UpstreamFailed(said)
