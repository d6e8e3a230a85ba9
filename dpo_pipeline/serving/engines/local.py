"""The engine that generates on this machine: it admits requests, and keeps the generating process alive."""

import asyncio
import itertools
import logging
import queue
import random
import threading
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess

from dpo_pipeline.core.answers import Answer, Ask
from dpo_pipeline.ml.generation import GenerationRequest
from dpo_pipeline.request_errors import DeadlineExceeded, EngineEnded, QueueFull
from dpo_pipeline.serving.engines import generating
from dpo_pipeline.serving.engines.engine import Adapter, Engine
from dpo_pipeline.serving.engines.generating import Cancel, Command, Event, Keep, Load, LoadResult, Submit
from dpo_pipeline.settings import Settings

log = logging.getLogger(__name__)


@dataclass(eq=False)
class _Job:
    """A request on its way. What happens to it is put into `events`, in the loop of whoever waits."""

    loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.get_running_loop)
    events: asyncio.Queue[str | Answer | Exception] = field(default_factory=asyncio.Queue)


class LocalEngine(Engine):
    """One base model, n adapters, one generating process; started by the first `serve`, and again after it died."""

    def __init__(self, settings: Settings):
        self.models = {}
        self._settings, self._limits = settings, settings.limits
        self._numbers = itertools.count()
        self._jobs: dict[int, _Job] = {}
        self._admitting = threading.Lock()
        self._link: _Link | None = None

    @property
    def load(self) -> tuple[int, int]:
        running = min(len(self._jobs), self._limits.batch)
        return len(self._jobs) - running, running

    def serve(self, adapters: Mapping[str, Adapter]) -> None:
        link = self._link
        if link is None or not link.alive:
            link = self._link = _Link(self._settings, self._deliver, self._broken)
        link.load(Load({adapter.sha: adapter.directory for adapter in adapters.values()}))
        with self._admitting:  # so that whatever was admitted for a version that goes is sent before it goes
            self.models = {name: adapter.sha for name, adapter in adapters.items()}
            link.send(Keep(frozenset(self.models.values())))
        if not link.alive:  # it died just now, and `_broken` may have come first
            self.models = {}

    async def answers(self, asks: Sequence[Ask]) -> list[Answer]:
        jobs = self._admit(asks, streamed=False)
        try:
            async with asyncio.timeout(self._limits.deadline_s):
                return [event for job in jobs.values() if isinstance(event := await _next(job), Answer)]
        except TimeoutError as error:
            raise self._late() from error
        finally:
            self._forget(jobs)

    async def stream(self, ask: Ask) -> AsyncIterator[str | Answer]:
        jobs = self._admit([ask], streamed=True)
        [job] = jobs.values()
        until = job.loop.time() + self._limits.deadline_s
        try:
            while True:
                async with asyncio.timeout_at(until):
                    event = await _next(job)
                shown = job.loop.time()
                yield event
                if isinstance(event, Answer):
                    return
                until += job.loop.time() - shown  # a slow reader is no slow model
        except TimeoutError as error:
            raise self._late() from error
        finally:
            self._forget(jobs)

    async def close(self) -> None:
        if self._link:
            await asyncio.to_thread(self._link.close)

    def _admit(self, asks: Sequence[Ask], streamed: bool) -> dict[int, _Job]:
        with self._admitting:
            self.check_served(asks)
            link, room = self._link, self._limits.queue + self._limits.batch
            assert link is not None
            if len(self._jobs) + len(asks) > room:
                waiting, _ = self.load
                raise QueueFull(f"{waiting} requests are waiting; {self._limits.queue} may. Try again shortly.")
            jobs = {next(self._numbers): _Job() for _ in asks}
            self._jobs.update(jobs)
            for number, ask in zip(jobs, asks, strict=True):
                link.send(Submit(number, self._request(ask), streamed))
        return jobs

    def _request(self, ask: Ask) -> GenerationRequest:
        sampling, longest = ask.sampling, self._settings.model.max_new_tokens
        return GenerationRequest(
            messages=ask.messages,
            adapter=self.models[ask.model_id],
            temperature=1.0 if sampling.temperature is None else sampling.temperature,
            top_p=1.0 if sampling.top_p is None else sampling.top_p,
            max_tokens=min(sampling.max_tokens or longest, longest),
            seed=random.getrandbits(31) if sampling.seed is None else sampling.seed,
        )

    def _forget(self, jobs: Mapping[int, _Job]) -> None:
        """Nobody waits for these any more; those without an end free their places."""
        unfinished = tuple(number for number in jobs if self._jobs.pop(number, None))
        if unfinished and self._link:
            self._link.send(Cancel(unfinished))

    def _late(self) -> DeadlineExceeded:
        """A process that has been silent as long as the request waited hangs: it is ended, and started again."""
        link, limit = self._link, self._limits.deadline_s
        if link and link.silent_s > limit:
            log.error("the generating process has been silent for %.0f s: ending it", link.silent_s)
            link.process.kill()
        return DeadlineExceeded(f"No answer within {limit:g} s. Ask again later, or for fewer tokens.")

    def _deliver(self, events: Sequence[Event]) -> None:
        """Hand events over to the loops that wait for them, with one wake-up a loop."""
        by_loop: dict[asyncio.AbstractEventLoop, list[tuple[_Job, str | Answer | Exception]]] = {}
        for number, event in events:
            job = self._jobs.get(number) if isinstance(event, str) else self._jobs.pop(number, None)
            if job:
                by_loop.setdefault(job.loop, []).append((job, event))
        for loop, mine in by_loop.items():
            with suppress(RuntimeError):  # the loop was closed: nobody waits any more
                loop.call_soon_threadsafe(_put, mine)

    def _broken(self) -> None:
        """The process ended: its requests have failed, and the router serves again within a second."""
        self.models = {}
        told = EngineEnded("The generating process ended. It is being started again; ask again in a moment.")
        self._deliver([(number, told) for number in tuple(self._jobs)])


class _Link:
    """The generating process and the two threads that speak to it: neither end can block an event loop."""

    def __init__(self, settings: Settings, deliver, broken):  # type: ignore[no-untyped-def]
        context = get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self.process: BaseProcess = context.Process(
            target=generating.main, args=(theirs, settings), name="generating", daemon=True
        )
        self.process.start()
        theirs.close()
        self._deliver, self._broken = deliver, broken
        self._orders: queue.SimpleQueue[Command | None] = queue.SimpleQueue()
        self._served: Future[None] | None = None
        self.alive = True
        self._closing = False
        self._heard = time.monotonic()
        for work in (self._send_all, self._receive_all):
            threading.Thread(target=work, args=(self._pipe,), name=f"engine {work.__name__}", daemon=True).start()

    @property
    def silent_s(self) -> float:
        """Seconds since the process said anything."""
        return time.monotonic() - self._heard

    def send(self, order: Command) -> None:
        self._orders.put(order)

    def load(self, order: Load) -> None:
        """
        Raises:
            whatever the process met while loading, or EngineEnded.
        """
        done: Future[None] = Future()
        self._served = done
        self.send(order)
        done.result()

    def close(self) -> None:
        self._closing = True
        self._orders.put(None)
        self.process.join(timeout=10)
        if self.process.is_alive():
            self.process.kill()

    def _send_all(self, pipe: Connection) -> None:
        """Closing the pipe would not reach the other end while our own reader waits on it: null does."""
        order: Command | None = Cancel(())
        with suppress(OSError):
            while order is not None:
                order = self._orders.get()
                pipe.send(order)

    def _receive_all(self, pipe: Connection) -> None:
        with suppress(EOFError, OSError):
            while True:
                said = pipe.recv()
                self._heard = time.monotonic()
                if isinstance(said, LoadResult):
                    self._loaded(said.error)
                else:
                    self._deliver(said)
        self.alive = False
        if not self._closing:
            self._broken()
        self._loaded(EngineEnded("The generating process ended while it was loading a version."))

    def _loaded(self, error: Exception | None) -> None:
        done, self._served = self._served, None
        if done is None:
            return
        if error is None:
            done.set_result(None)
        else:
            done.set_exception(error)


async def _next(job: _Job) -> str | Answer:
    event = await job.events.get()
    if isinstance(event, Exception):
        raise event
    return event


def _put(events: Sequence[tuple[_Job, str | Answer | Exception]]) -> None:
    for job, event in events:
        job.events.put_nowait(event)
