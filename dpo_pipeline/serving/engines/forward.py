"""The second engine: answers come from any OpenAI-compatible server, such as vLLM.

Versions map to model names there (`engine.names`). That server loads the adapters itself; ours says
which versions there are, who gets which, and keeps deadline and limits.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from typing import Any

import httpx

from dpo_pipeline.core.answers import Answer, Ask
from dpo_pipeline.core.template_tokens import defuse
from dpo_pipeline.errors import DeadlineExceeded, QueueFull, UpstreamFailed
from dpo_pipeline.serving.engines.engine import Adapter, Engine
from dpo_pipeline.serving.engines.upstream import End, read_answer
from dpo_pipeline.settings import Settings

BYTES_A_TOKEN, LEAST_CAP = 2_000, 4_000_000
"""An answer of another server may have so many for each token that is asked for, with the JSON around them."""


class ForwardEngine(Engine):
    """Forwards over HTTP; as many requests at once as wait and batch together may hold."""

    def __init__(self, settings: Settings):
        self.models = {}
        self._limits, self._engine = settings.limits, settings.engine
        self._room = settings.limits.queue + settings.limits.batch
        self._running = 0
        self._most_bytes = max(LEAST_CAP, BYTES_A_TOKEN * settings.model.max_new_tokens)
        key = settings.keys.engine
        headers = {"Authorization": f"Bearer {key.get_secret_value()}"} if key else {}
        self._client = httpx.AsyncClient(
            base_url=self._engine.url.rstrip("/") + "/",
            headers=headers,
            timeout=None,  # noqa: S113  (every use has the request's own deadline)
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=settings.limits.batch),
        )

    @property
    def load(self) -> tuple[int, int]:
        return 0, self._running

    def serve(self, adapters: Mapping[str, Adapter]) -> None:
        """Route to these versions. Whether the other server has them shows when one is asked for."""
        self.models = {name: adapter.sha for name, adapter in adapters.items()}

    async def answers(self, asks: Sequence[Ask]) -> list[Answer]:
        ended = await asyncio.gather(*map(self._whole, asks), return_exceptions=True)
        for result in ended:
            if isinstance(result, BaseException):
                raise result
        return [result for result in ended if isinstance(result, Answer)]

    async def stream(self, ask: Ask) -> AsyncIterator[str | Answer]:
        self.check_served([ask])
        pieces: list[str] = []
        end: End | None = None
        clock = asyncio.get_running_loop().time
        until = clock() + self._limits.deadline_s
        request = self._client.build_request("POST", "chat/completions", json=self._body(ask))
        response: httpx.Response | None = None
        self._enter()
        try:
            # A timeout for each wait: one around a `yield` would end whoever reads the pieces.
            async with asyncio.timeout_at(until):
                response = await self._client.send(request, stream=True)
            async with aclosing(read_answer(response, self._most_bytes)) as events:
                while end is None:
                    async with asyncio.timeout_at(until):
                        event = await anext(events)
                    if isinstance(event, End):
                        end = event
                    else:
                        pieces.append(event)
                        shown = clock()
                        yield event
                        until += clock() - shown  # a slow reader is no slow server
        except TimeoutError as error:
            raise DeadlineExceeded(
                f"{self._engine.url} gave no answer within {self._limits.deadline_s:g} s."
            ) from error
        except httpx.HTTPError as error:
            raise UpstreamFailed(
                f"{self._engine.url} could not be asked ({type(error).__name__}: {error}). Start that server or fix "
                "engine.url."
            ) from error
        finally:
            self._running -= 1
            if response is not None:
                await response.aclose()
        yield Answer(
            text="".join(pieces).strip(),
            prompt_tokens=end.prompt_tokens or 0,
            tokens=len(pieces) if end.tokens is None else end.tokens,
            finished=end.finished,
            adapter=self.models.get(ask.model_id),
        )

    async def close(self) -> None:
        await self._client.aclose()

    def _enter(self) -> None:
        if self._running >= self._room:
            raise QueueFull(f"{self._running} requests are being forwarded; {self._room} may. Try again shortly.")
        self._running += 1

    async def _whole(self, ask: Ask) -> Answer:
        async for event in self.stream(ask):
            if isinstance(event, Answer):
                return event
        raise UpstreamFailed(f"{self._engine.url} ended without an answer.")

    def _body(self, ask: Ask) -> dict[str, Any]:
        sampling = ask.sampling
        wanted = {
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "max_tokens": sampling.max_tokens,
            "seed": sampling.seed,
        }
        return {
            "model": self._engine.names.get(ask.model_id, ask.model_id),
            "messages": [{"role": role, "content": defuse(content, role=role)} for role, content in ask.messages],
            "stream": True,
            "stream_options": {"include_usage": True},
            **{name: value for name, value in wanted.items() if value is not None},
        }
