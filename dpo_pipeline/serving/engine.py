"""Generation for many people at once: one thread, one base model, requests of all versions in shared batches.

Callers wait on futures; what arrives while a batch decodes forms the next one. Adapters are loaded
and dropped between batches, so none is dropped under a request.
"""

import asyncio
import queue
import random
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dpo_pipeline.core.votes import Sampling
from dpo_pipeline.errors import DeadlineExceeded, NotReady, QueueFull, UnknownModel
from dpo_pipeline.settings import Limits

if TYPE_CHECKING:
    from dpo_pipeline.ml.generation import Answer, Generator

Messages = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Ask:
    """One answer wanted of one model."""

    model_id: str
    messages: Messages
    sampling: Sampling


@dataclass(frozen=True)
class _Waiting:
    ask: Ask
    future: "Future[Answer]"
    deadline: float


class Engine:
    """Served models by name, and the thread that answers for them."""

    def __init__(self, limits: Limits):
        self._limits = limits
        self._queue: queue.Queue[_Waiting | Callable[[], None] | None] = queue.Queue()
        self._waiting = 0
        self._gate = threading.Lock()
        self._generator: Generator | None = None
        self._adapters: dict[str, str] = {}
        self._thread = threading.Thread(target=self._work, name="engine", daemon=True)
        self._thread.start()

    @property
    def ready(self) -> bool:
        return self._generator is not None and bool(self._adapters)

    @property
    def models(self) -> dict[str, str]:
        """Served model names and the sha256 of their adapters."""
        return dict(self._adapters)

    def serve(self, make: "Callable[[], Generator]", adapters: dict[str, tuple[str, Any]]) -> None:
        """Serve exactly these models, from the next batch on. Blocks until they are loaded.

        Args:
            make: builds the generator the first time.
            adapters: model name → (sha256, directory).

        Raises:
            ArtifactError, AdapterRefused: one must not be served; what was served before stays.
        """
        done: Future[None] = Future()

        def change() -> None:
            try:
                generator = self._generator or make()
                for sha, directory in adapters.values():
                    generator.load(sha, directory)
                self._generator = generator
                self._adapters = {name: sha for name, (sha, _) in adapters.items()}
                for sha in generator.loaded - set(self._adapters.values()):
                    generator.drop(sha)
                done.set_result(None)
            except Exception as error:  # handed to the caller, who waits for it
                done.set_exception(error)

        self._queue.put(change)
        done.result()

    async def generate(self, model_id: str, prompt: str, sampling: Sampling | None = None) -> "Answer":
        """One model's answer to one question."""
        [answer] = await self.generate_all([Ask(model_id, (("user", prompt),), sampling or Sampling(0.8, 0.95, None))])
        return answer

    async def generate_all(self, asks: Sequence[Ask]) -> "list[Answer]":
        """Answers in order; all of them are put in the same batch where it has room.

        Raises:
            NotReady, UnknownModel, QueueFull, DeadlineExceeded, InvalidRequest
        """
        waiting = self._admit(asks)
        try:
            gathered = asyncio.gather(*(asyncio.wrap_future(item.future) for item in waiting))
            return list(await asyncio.wait_for(gathered, self._limits.deadline_s))
        except TimeoutError as error:
            raise DeadlineExceeded(
                f"No answer within {self._limits.deadline_s:g} s. Ask again later, or for fewer tokens."
            ) from error

    def close(self) -> None:
        self._queue.put(None)
        self._thread.join(timeout=30)

    def _admit(self, asks: Sequence[Ask]) -> list[_Waiting]:
        if not self.ready:
            raise NotReady("The first version is being built or loaded. Try again in a moment; /readyz tells when.")
        for ask in asks:
            if ask.model_id not in self._adapters:
                served = ", ".join(sorted(self._adapters))
                raise UnknownModel(f"Model {ask.model_id!r} is not served. Ask for one of {served}, or for 'chat'.")
        with self._gate:
            if self._waiting + len(asks) > self._limits.queue:
                raise QueueFull(f"{self._waiting} requests are waiting; {self._limits.queue} may. Try again shortly.")
            self._waiting += len(asks)
        deadline = time.monotonic() + self._limits.deadline_s
        waiting = [_Waiting(ask, Future(), deadline) for ask in asks]
        for item in waiting:
            self._queue.put(item)
        return waiting

    def _work(self) -> None:
        while (item := self._queue.get()) is not None:
            batch: list[_Waiting] = []
            while isinstance(item, _Waiting):
                batch.append(item)
                if len(batch) == self._limits.batch:
                    break
                try:
                    item = self._queue.get_nowait()
                except queue.Empty:
                    break
            self._answer(batch)
            if item is None:
                return
            if not isinstance(item, _Waiting):
                item()

    def _answer(self, batch: list[_Waiting]) -> None:
        with self._gate:
            self._waiting -= len(batch)
        live = [item for item in batch if not item.future.cancelled() and time.monotonic() < item.deadline]
        if not live:
            return
        try:
            answers = self._generate([item.ask for item in live])
        except Exception as error:
            if len(live) == 1:
                live[0].future.set_exception(error)
            else:  # one bad request must not fail its neighbours
                with self._gate:
                    self._waiting += len(live)
                for item in live:
                    self._answer([item])
            return
        for item, answer in zip(live, answers, strict=True):
            if not item.future.cancelled():
                item.future.set_result(answer)

    def _generate(self, asks: Sequence[Ask]) -> "list[Answer]":
        from dpo_pipeline.ml.generation import GenerationRequest

        generator = self._generator
        assert generator is not None
        longest = generator.settings.max_new_tokens
        return generator.generate(
            [
                GenerationRequest(
                    messages=ask.messages,
                    adapter=self._adapters[ask.model_id],
                    temperature=1.0 if ask.sampling.temperature is None else ask.sampling.temperature,
                    top_p=1.0 if ask.sampling.top_p is None else ask.sampling.top_p,
                    max_tokens=min(ask.sampling.max_tokens or longest, longest),
                    seed=random.getrandbits(31) if ask.sampling.seed is None else ask.sampling.seed,
                )
                for ask in asks
            ]
        )
