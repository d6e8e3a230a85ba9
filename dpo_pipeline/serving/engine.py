"""Where answers come from: the interface, and the engine that generates here.

`LocalEngine` is one thread over one base model. Requests of all versions share a batch, join it at
any step and leave it when they are done, cancelled or late. Votes never pass through here.
"""

import asyncio
import logging
import random
import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from dpo_pipeline.core.answers import Answer, Ask
from dpo_pipeline.core.votes import Sampling
from dpo_pipeline.errors import DeadlineExceeded, EngineFailed, NotReady, QueueFull, UnknownModel
from dpo_pipeline.settings import Limits

if TYPE_CHECKING:
    from dpo_pipeline.ml.decoding import Row
    from dpo_pipeline.ml.generation import GenerationRequest, Generator, TextStream

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Adapter:
    """A version's adapter: its sha256 and its folder."""

    sha: str
    directory: Path


class Engine(ABC):
    """Answers of served models, whole or as they grow. A second engine forwards to another server."""

    models: Mapping[str, str]
    """Served model names and the sha256 of their adapters."""

    @property
    def ready(self) -> bool:
        return bool(self.models)

    @abstractmethod
    def serve(self, adapters: Mapping[str, Adapter]) -> None:
        """Serve exactly these models from now on; blocks until they are loaded.

        Raises:
            ArtifactError, AdapterRefused: one must not be served; what was served before stays.
        """

    @abstractmethod
    async def answers(self, asks: Sequence[Ask]) -> list[Answer]:
        """Answers in order, generated together where there is room.

        Raises:
            NotReady, UnknownModel, QueueFull, DeadlineExceeded, InvalidRequest, EngineFailed
        """

    @abstractmethod
    def stream(self, ask: Ask) -> AsyncIterator[str | Answer]:
        """Pieces of text as they come, and last the whole answer. Closing the iterator frees its place.

        Raises: as `answers`, before the first piece or between two.
        """

    @property
    @abstractmethod
    def load(self) -> tuple[int, int]:
        """(requests that wait, requests that are being answered)."""

    @abstractmethod
    async def close(self) -> None: ...

    async def generate(self, model_id: str, prompt: str, sampling: Sampling | None = None) -> Answer:
        """One model's answer to one question."""
        [answer] = await self.answers([Ask(model_id, (("user", prompt),), sampling or Sampling(0.8, 0.95, None))])
        return answer

    def check_served(self, asks: Iterable[Ask]) -> None:
        if not self.ready:
            raise NotReady("The first version is being built or loaded. Try again in a moment; /readyz tells when.")
        for ask in asks:
            if ask.model_id not in self.models:
                served = ", ".join(sorted(self.models))
                raise UnknownModel(f"Model {ask.model_id!r} is not served. Ask for one of {served}, or for 'chat'.")


@dataclass(eq=False)
class _Job:
    """A request on its way. What happens to it is put into `events`, in the loop of whoever waits."""

    ask: Ask
    adapter: str
    streamed: bool
    loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.get_running_loop)
    events: asyncio.Queue[str | Answer | Exception] = field(default_factory=asyncio.Queue)
    row: "Row | None" = None
    text: "TextStream | None" = None


class LocalEngine(Engine):
    """One base model, n adapters, one thread."""

    def __init__(self, limits: Limits, make: "Callable[[], Generator]"):
        """
        Args:
            make: builds the generator when the first version is to be served.
        """
        self.models = {}
        self._limits, self._make = limits, make
        self._generator: Generator | None = None
        self._wake = threading.Condition()
        self._waiting: deque[_Job] = deque()
        self._orders: deque[Callable[[], None]] = deque()
        self._abandoned: set[_Job] = set()
        self._running: list[_Job] = []
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="engine", daemon=True)
        self._thread.start()

    @property
    def load(self) -> tuple[int, int]:
        return len(self._waiting), len(self._running)

    def serve(self, adapters: Mapping[str, Adapter]) -> None:
        done: Future[None] = Future()

        def change() -> None:
            try:
                generator = self._generator or self._make()
                for adapter in adapters.values():
                    generator.load(adapter.sha, adapter.directory)
                self._generator = generator
                self.models = {name: adapter.sha for name, adapter in adapters.items()}
                done.set_result(None)
            except Exception as error:  # handed to the caller, who waits for it
                done.set_exception(error)

        with self._wake:
            self._orders.append(change)
            self._wake.notify()
        done.result()

    async def answers(self, asks: Sequence[Ask]) -> list[Answer]:
        jobs = self._admit(asks, streamed=False)
        try:
            async with asyncio.timeout(self._limits.deadline_s):
                return [answer for job in jobs if isinstance(answer := await _next(job), Answer)]
        except TimeoutError as error:
            raise self._late() from error
        finally:
            self._abandon(jobs)

    async def stream(self, ask: Ask) -> AsyncIterator[str | Answer]:
        jobs = self._admit([ask], streamed=True)
        until = jobs[0].loop.time() + self._limits.deadline_s
        try:
            while True:
                async with asyncio.timeout_at(until):
                    event = await _next(jobs[0])
                yield event
                if isinstance(event, Answer):
                    return
        except TimeoutError as error:
            raise self._late() from error
        finally:
            self._abandon(jobs)

    async def close(self) -> None:
        with self._wake:
            self._closed = True
            self._wake.notify()
        await asyncio.to_thread(self._thread.join, 30)

    def _late(self) -> DeadlineExceeded:
        return DeadlineExceeded(
            f"No answer within {self._limits.deadline_s:g} s. Ask again later, or for fewer tokens."
        )

    def _admit(self, asks: Sequence[Ask], streamed: bool) -> list[_Job]:
        self.check_served(asks)
        jobs = [_Job(ask, self.models[ask.model_id], streamed) for ask in asks]
        with self._wake:
            waiting = len(self._waiting)
            if waiting + len(jobs) > self._limits.queue:
                raise QueueFull(f"{waiting} requests are waiting; {self._limits.queue} may. Try again shortly.")
            self._waiting.extend(jobs)
            self._wake.notify()
        return jobs

    def _abandon(self, jobs: Sequence[_Job]) -> None:
        """Nobody waits for these any more; those that have ended are not affected."""
        with self._wake:
            for job in jobs:
                if job in self._waiting:
                    self._waiting.remove(job)
                else:
                    self._abandoned.add(job)

    # Everything below runs in the engine's thread.

    def _work(self) -> None:
        while not self._closed:
            orders, jobs, abandoned = self._take()
            for order in orders:
                order()
            self._leave(abandoned)
            self._join(jobs)
            if self._running:
                self._step()
            self._drop_unused()

    def _take(self) -> tuple[list[Callable[[], None]], list[_Job], set[_Job]]:
        """What to do next; waits only while nothing is being answered."""
        with self._wake:
            while not (self._running or self._waiting or self._orders or self._closed):
                self._wake.wait()
            orders = list(self._orders)
            self._orders.clear()
            room = self._limits.batch - len(self._running)
            jobs = [self._waiting.popleft() for _ in range(min(room, len(self._waiting)))]
            abandoned, self._abandoned = self._abandoned, set()
        return orders, jobs, abandoned

    def _leave(self, jobs: set[_Job]) -> None:
        leaving = [job for job in self._running if job in jobs]
        if leaving and self._generator:
            self._generator.batch.leave([job.row for job in leaving if job.row])
            self._running = [job for job in self._running if job not in jobs]

    def _join(self, jobs: Sequence[_Job]) -> None:
        generator = self._generator
        if not jobs or generator is None:
            return
        ready = []
        for job in jobs:
            try:
                job.row = generator.row(self._request(job))
                job.text = generator.text_stream(job.row) if job.streamed else None
                ready.append(job)
            except Exception as error:
                _deliver([(job, error)])
        self._running += ready
        try:
            generator.batch.join([job.row for job in ready if job.row])
        except Exception as error:
            self._fail(ready, error)
        else:
            self._report(ready)

    def _step(self) -> None:
        assert self._generator is not None
        try:
            self._generator.batch.step()
        except Exception as error:
            self._fail(self._running, error)
        else:
            self._report(self._running)

    def _report(self, jobs: Sequence[_Job]) -> None:
        """Tell those who wait what is new."""
        events: list[tuple[_Job, str | Answer | Exception]] = []
        for job in jobs:
            assert job.row is not None and self._generator is not None
            if job.text and (piece := job.text.piece()):
                events.append((job, piece))
            if job.row.done:
                events.append((job, self._generator.answer(job.row)))
        self._running = [job for job in self._running if job.row and not job.row.done]
        _deliver(events)

    def _fail(self, jobs: Sequence[_Job], error: Exception) -> None:
        """Generation itself went wrong: these requests have failed, later ones start afresh."""
        log.error("generation failed for %d requests", len(jobs), exc_info=error)
        told = EngineFailed(f"Generation failed ({type(error).__name__}: {error}). Ask again; the log has the trace.")
        self._leave(set(jobs))
        _deliver([(job, told) for job in jobs])

    def _drop_unused(self) -> None:
        """Adapters that are served no longer, once nobody waits for an answer of theirs."""
        if self._generator is None or self._generator.loaded <= set(self.models.values()):
            return
        with self._wake:
            used = {job.adapter for job in (*self._running, *self._waiting)} | set(self.models.values())
        for sha in self._generator.loaded - used:
            self._generator.drop(sha)

    def _request(self, job: _Job) -> "GenerationRequest":
        from dpo_pipeline.ml.generation import GenerationRequest

        assert self._generator is not None
        sampling, longest = job.ask.sampling, self._generator.settings.max_new_tokens
        return GenerationRequest(
            messages=job.ask.messages,
            adapter=job.adapter,
            temperature=1.0 if sampling.temperature is None else sampling.temperature,
            top_p=1.0 if sampling.top_p is None else sampling.top_p,
            max_tokens=min(sampling.max_tokens or longest, longest),
            seed=random.getrandbits(31) if sampling.seed is None else sampling.seed,
        )


async def _next(job: _Job) -> str | Answer:
    event = await job.events.get()
    if isinstance(event, Exception):
        raise event
    return event


def _deliver(events: Sequence[tuple[_Job, str | Answer | Exception]]) -> None:
    """Hand events over to the loops that wait for them, with one wake-up a loop."""
    by_loop: dict[asyncio.AbstractEventLoop, list[tuple[_Job, str | Answer | Exception]]] = {}
    for job, event in events:
        by_loop.setdefault(job.loop, []).append((job, event))
    for loop, mine in by_loop.items():
        with suppress(RuntimeError):  # the loop was closed: nobody waits any more
            loop.call_soon_threadsafe(_put, mine)


def _put(events: Sequence[tuple[_Job, str | Answer | Exception]]) -> None:
    for job, event in events:
        job.events.put_nowait(event)
