"""The generating process: one base model, requests of all versions in one running batch.

It has a process of its own so that decoding and HTTP do not take turns on one interpreter, and so
that whatever happens to a model, votes are still taken. `local` starts it and speaks to it through
a pipe; when the other end is gone or sends null, it ends.
"""

import logging
import signal
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING

from dpo_pipeline.core.answers import Answer
from dpo_pipeline.errors import DpoError
from dpo_pipeline.in_words import fault
from dpo_pipeline.ml.generation import GenerationRequest
from dpo_pipeline.program_logs import log_to_terminal
from dpo_pipeline.request_errors import EngineEnded, EngineFailed, NotReady
from dpo_pipeline.settings import Settings

if TYPE_CHECKING:
    from dpo_pipeline.ml.generation import Generator, TextStream
    from dpo_pipeline.ml.row import Row

JOIN_EVERY = 4
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Submit:
    """Answer this; `streamed` wants its pieces as they come."""

    job: int
    request: GenerationRequest
    streamed: bool


@dataclass(frozen=True)
class Cancel:
    """Nobody waits for these any more."""

    jobs: tuple[int, ...]


@dataclass(frozen=True)
class Load:
    """Load these adapters too, sha256 → folder."""

    adapters: Mapping[str, Path]


@dataclass(frozen=True)
class LoadResult:
    """The reply to `Load`; `error` says why everything stayed as it was."""

    error: Exception | None = None


@dataclass(frozen=True)
class Keep:
    """Only these adapters are asked for from now on, by sha256; others are dropped once nobody uses them."""

    adapters: frozenset[str]


Command = Submit | Cancel | Load | Keep
Event = tuple[int, str | Answer | Exception]


@dataclass(eq=False)
class _Running:
    job: int
    row: "Row"
    text: "TextStream | None"


def main(pipe: Connection, settings: Settings) -> None:
    """Read orders, decode, send events, until the other end is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer
    log_to_terminal()
    try:
        _Loop(pipe, settings).run()
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return


class _Loop:
    def __init__(self, pipe: Connection, settings: Settings):
        self._pipe, self._settings = pipe, settings
        self._room = settings.limits.batch
        self._generator: Generator | None = None
        self._kept: frozenset[str] = frozenset()
        self._waiting: deque[Submit] = deque()
        self._running: list[_Running] = []
        self._since_join = 0

    def run(self) -> None:
        while True:
            self._take_orders()
            self._join()
            if self._running and self._generator:
                self._advance(self._running, self._generator.batch.step, [])
            self._drop_unused()

    def _take_orders(self) -> None:
        """Everything that was ordered meanwhile; waits only while there is nothing to decode."""
        idle = not (self._running or self._waiting)
        while idle or self._pipe.poll():
            order: Command | None = self._pipe.recv()
            if order is None:
                raise EOFError("the parent stops")
            if isinstance(order, Submit):
                self._waiting.append(order)
            elif isinstance(order, Cancel):
                self._cancel(set(order.jobs))
            elif isinstance(order, Load):
                self._pipe.send(self._load(order))
            else:
                self._kept = order.adapters
            idle = False

    def _load(self, order: Load) -> LoadResult:
        from dpo_pipeline.ml.base_model import locate_base
        from dpo_pipeline.ml.generation import Generator

        try:
            generator = self._generator or Generator(
                locate_base(self._settings), self._settings.model, self._settings.engine.eight_bit
            )
            for sha, directory in order.adapters.items():
                generator.load(sha, directory)
        except DpoError as error:
            return LoadResult(error)
        except Exception as error:
            log.exception("a version could not be loaded")
            return LoadResult(EngineFailed(f"A version could not be loaded: {fault(error)}"))
        self._generator, self._kept = generator, self._kept | order.adapters.keys()
        return LoadResult()

    def _cancel(self, jobs: set[int]) -> None:
        self._waiting = deque(order for order in self._waiting if order.job not in jobs)
        self._leave([running for running in self._running if running.job in jobs])

    def _leave(self, leaving: Sequence[_Running]) -> None:
        if leaving and self._generator:
            self._generator.batch.leave([running.row for running in leaving])
            self._running = [running for running in self._running if running not in leaving]

    def _join(self) -> None:
        """New requests join in groups: reading one prompt costs as much as a step of the whole batch."""
        self._since_join += 1
        few = len(self._waiting) < JOIN_EVERY and self._since_join < JOIN_EVERY
        room = self._room - len(self._running)
        if not self._waiting or room <= 0 or (self._running and few):
            return
        self._since_join = 0
        orders = [self._waiting.popleft() for _ in range(min(room, len(self._waiting)))]
        joining, refused = self._rows(orders)
        self._running += joining
        generator, rows = self._generator, [one.row for one in joining]
        if generator and rows:
            self._advance(joining, lambda: generator.batch.join(rows), refused)
        else:
            self._pipe.send(refused)

    def _rows(self, orders: Sequence[Submit]) -> tuple[list[_Running], list[Event]]:
        """Requests made ready, and those that cannot be."""
        ready: list[_Running] = []
        refused: list[Event] = []
        for order in orders:
            try:
                if self._generator is None:
                    raise NotReady("No model is loaded in the generating process. Ask again in a moment.")
                row = self._generator.row(order.request)
                ready.append(_Running(order.job, row, self._generator.text_stream(row) if order.streamed else None))
            except DpoError as error:
                refused.append((order.job, error))
            except Exception as error:
                # Nothing was generated yet: whatever it is, it says nothing about the version.
                log.exception("a request could not be made ready")
                told = f"The request could not be made ready ({fault(error)}); the log has the trace."
                refused.append((order.job, NotReady(told)))
        return ready, refused

    def _advance(self, running: list[_Running], forward: Callable[[], object], events: list[Event]) -> None:
        """One forward pass, and the news of it to those who wait."""
        try:
            forward()
            events += self._news(running)
        except Exception as error:
            log.exception("generation failed for %d requests", len(running))
            events += [(one.job, _failure(error)) for one in running]
            self._leave(running)
        if events:
            self._pipe.send(events)

    def _news(self, running: Sequence[_Running]) -> list[Event]:
        assert self._generator is not None
        events: list[Event] = []
        for one in running:
            if one.text and (piece := one.text.piece()):
                events.append((one.job, piece))
            if one.row.done:
                events.append((one.job, self._generator.answer(one.row)))
        self._running = [one for one in self._running if not one.row.done]
        return events

    def _drop_unused(self) -> None:
        """Adapters that are not to be kept, once nobody waits for an answer of theirs."""
        if self._generator is None or self._generator.loaded <= self._kept:
            return
        used = {one.row.adapter for one in self._running} | {order.request.adapter for order in self._waiting}
        for sha in self._generator.loaded - self._kept - used:
            self._generator.drop(sha)


def _failure(error: Exception) -> EngineEnded:
    log.error("generation failed", exc_info=error)
    return EngineEnded("Generation failed. Ask again; the server's log has the trace.")
