"""The second engine: answers come from OpenAI-compatible servers, such as vLLM.

Versions map to model names there (`engine.names`), or are loaded there (`engine.loads`). Ours says which versions there
are, who gets which, and keeps deadline and limits. Of several servers that hold a version, the least busy one is asked.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from typing import Any

import httpx

from dpo_pipeline.core.answers import Answer, Ask
from dpo_pipeline.core.template_tokens import defuse
from dpo_pipeline.in_words import fault
from dpo_pipeline.ml.bounded_call import AS_IT_IS
from dpo_pipeline.request_errors import DeadlineExceeded, ModelNotHeld, NotReady, QueueFull, UpstreamFailed
from dpo_pipeline.serving.engines.engine import Adapter, Engine, ServerState
from dpo_pipeline.serving.engines.model_server import ModelServer, name_there
from dpo_pipeline.serving.engines.upstream import End, read_answer
from dpo_pipeline.settings import Settings

BYTES_A_TOKEN, LEAST_CAP = 2_000, 4_000_000
"""An answer of another server may have so many for each token that is asked for, with the JSON around them."""
SETTLE_S = 2.0
"""How long `serve` waits for a version to be loaded; what takes longer goes on, and is asked about again. Meanwhile
nobody follows the ledger."""
RETRY_S = 0.05


class ForwardEngine(Engine):
    """Forwards over HTTP; as many requests at once as wait and batch together may hold."""

    def __init__(self, settings: Settings):
        self.models = {}
        self._limits, self._engine = settings.limits, settings.engine
        self._room = settings.limits.queue + settings.limits.batch
        self._running = 0
        self._kept: dict[str, Adapter] = {}
        self._most_bytes = max(LEAST_CAP, BYTES_A_TOKEN * settings.model.max_new_tokens)
        key = settings.keys.engine
        self._secret = key.get_secret_value() if key else ""
        headers = AS_IT_IS | ({"Authorization": f"Bearer {self._secret}"} if key else {})
        self._servers = [
            ModelServer(url, self._engine, headers, linger_s=settings.limits.deadline_s) for url in self._engine.url
        ]
        self._client = httpx.AsyncClient(
            headers=headers,
            timeout=None,  # noqa: S113  (every use has the request's own deadline)
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=settings.limits.batch),
        )

    @property
    def load(self) -> tuple[int, int]:
        return 0, self._running

    @property
    def servers(self) -> tuple[ServerState, ...]:
        return tuple(server.state for server in self._servers)

    def serve(self, adapters: Mapping[str, Adapter]) -> None:
        """
        Raises:
            UpstreamFailed: no server holds one of them, and why.
        """
        names = {version: self._name(version, adapter.sha) for version, adapter in adapters.items()}
        wanted = {names[version]: adapter for version, adapter in adapters.items()}
        for server in self._servers:
            server.want(self._kept | wanted)  # what is served stays until the others are there
        until = time.monotonic() + SETTLE_S
        while time.monotonic() < until and any(each.reachable and not each.settled for each in self._servers):
            time.sleep(RETRY_S)
        for version, name in names.items():
            if not any(server.holds(name) for server in self._servers):
                reasons = "; ".join(server.why_not(name) for server in self._servers)
                raise UpstreamFailed(f"No server holds {version}. {reasons}")
        self.models, self._kept = {version: adapter.sha for version, adapter in adapters.items()}, wanted
        for server in self._servers:
            server.want(wanted)

    async def answers(self, asks: Sequence[Ask]) -> list[Answer]:
        ended = await asyncio.gather(*map(self._whole, asks), return_exceptions=True)
        for result in ended:
            if isinstance(result, BaseException):
                raise result
        return [result for result in ended if isinstance(result, Answer)]

    async def stream(self, ask: Ask) -> AsyncIterator[str | Answer]:
        self.check_served([ask])
        name = self._name(ask.model_id, self.models[ask.model_id])
        until = asyncio.get_running_loop().time() + self._limits.deadline_s
        failed: set[ModelServer] = set()
        self._enter()
        try:
            while True:
                server, begun = await self._server(name, failed, until), False
                try:
                    async with aclosing(self._read(server, ask, name, until)) as events:
                        async for event in events:
                            begun = True
                            yield event
                    return
                except ModelNotHeld:
                    # Before the first piece, and nobody has seen anything: it is asked again once it is back.
                    if begun or not self._engine.loads:
                        raise
                    server.lost(name)
                except httpx.HTTPError as error:
                    failed.add(server)
                    if begun or not self._holding(name, failed):
                        raise UpstreamFailed(
                            f"{server.shown} could not be asked ({fault(error)}). Start that server or fix engine.url."
                        ) from error
        except TimeoutError as error:
            raise DeadlineExceeded(f"No answer came within {self._limits.deadline_s:g} s.") from error
        finally:
            self._running -= 1

    async def close(self) -> None:
        await asyncio.gather(*(asyncio.to_thread(server.close) for server in self._servers))
        await self._client.aclose()

    async def _server(self, name: str, failed: set[ModelServer], until: float) -> ModelServer:
        """The least busy server that holds it; one that has lost it is given until the deadline to have it again.

        Raises:
            NotReady: none holds it.
        """
        clock = asyncio.get_running_loop().time
        while not (holding := self._holding(name, failed)):
            if clock() > until:
                reasons = "; ".join(server.why_not(name) for server in self._servers)
                raise NotReady(f"No server holds this version at the moment. {reasons}")
            await asyncio.sleep(RETRY_S)
        return min(holding, key=lambda server: (not server.reachable, server.busy))

    def _holding(self, name: str, failed: set[ModelServer]) -> list[ModelServer]:
        return [server for server in self._servers if server.holds(name) and server not in failed]

    async def _read(self, server: ModelServer, ask: Ask, name: str, until: float) -> AsyncGenerator[str | Answer]:
        """
        Raises:
            TimeoutError: at the deadline, to which the time that a slow reader takes is added.
            httpx.HTTPError, and as `read_answer`.
        """
        sha, clock = self.models.get(ask.model_id), asyncio.get_running_loop().time
        request = self._client.build_request("POST", f"{server.url}chat/completions", json=self._body(ask, name))
        response: httpx.Response | None = None
        pieces: list[str] = []
        end: End | None = None
        with server.answering(name):
            try:
                # A timeout for each wait: one around a `yield` would end whoever reads the pieces.
                async with asyncio.timeout_at(until):
                    response = await self._client.send(request, stream=True)
                async with aclosing(read_answer(response, self._most_bytes, secret=self._secret)) as events:
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
            finally:
                if response is not None:
                    await response.aclose()
        yield Answer(
            text="".join(pieces).strip(),
            prompt_tokens=end.prompt_tokens or 0,
            tokens=len(pieces) if end.tokens is None else end.tokens,
            finished=end.finished,
            adapter=sha,
        )

    def _enter(self) -> None:
        if self._running >= self._room:
            raise QueueFull(f"{self._running} requests are being forwarded; {self._room} may. Try again shortly.")
        self._running += 1

    async def _whole(self, ask: Ask) -> Answer:
        async for event in self.stream(ask):
            if isinstance(event, Answer):
                return event
        raise UpstreamFailed("The other server ended without an answer.")

    def _name(self, version: str, sha: str) -> str:
        return name_there(version, sha) if self._engine.loads else self._engine.names.get(version, version)

    def _body(self, ask: Ask, name: str) -> dict[str, Any]:
        sampling = ask.sampling
        wanted = {
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "max_tokens": sampling.max_tokens,
            "seed": sampling.seed,
        }
        return {
            "model": name,
            "messages": [{"role": role, "content": defuse(content, role=role)} for role, content in ask.messages],
            "stream": True,
            "stream_options": {"include_usage": True},
            **{name: value for name, value in wanted.items() if value is not None},
        }
