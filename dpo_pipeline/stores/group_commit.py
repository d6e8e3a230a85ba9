"""What waits to be written at the same time shares one write, such as one sync of a disk.

For the coroutines of one event loop: whoever waits costs microseconds there, while the disk works in a thread.
"""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

from dpo_pipeline.stores.log import Log

T = TypeVar("T")
R = TypeVar("R")


class GroupCommit(Generic[T, R]):
    """What arrives during a write is written together by the next one.

    Args:
        write: all of it or, raising, none; returns what each shall be told, in order. Runs in a thread.
    """

    def __init__(self, write: Callable[[list[T]], Sequence[R]]):
        self._write_all = write
        self._disk = ThreadPoolExecutor(1, thread_name_prefix="group-commit")
        self._waiting: list[tuple[T, asyncio.Future[R]]] = []
        self._writer: asyncio.Task[None] | None = None

    async def submit(self, item: T) -> R:
        """Returns when it is written; raises what `write` raised, and then nothing of it is."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[R] = loop.create_future()
        self._waiting.append((item, done))
        if self._writer is None:
            self._writer = loop.create_task(self._write())
        return await done

    async def _write(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting:
            batch, self._waiting = self._waiting, []
            try:
                told = await loop.run_in_executor(self._disk, self._write_all, [item for item, _ in batch])
            except Exception as error:  # whatever it is belongs to those who wait; none may wait for ever
                for _, done in batch:
                    if not done.done():  # cancelled: its caller went away
                        done.set_exception(error)
            else:
                for (_, done), answer in zip(batch, told, strict=True):
                    if not done.done():
                        done.set_result(answer)
        self._writer = None


def committing(log: Log) -> GroupCommit[bytes, None]:
    """Lines of a log, without their newlines; a sync raises LogWriteError for all that shared it."""

    def write(lines: list[bytes]) -> list[None]:
        log.append_all(lines)
        return [None] * len(lines)

    return GroupCommit(write)
