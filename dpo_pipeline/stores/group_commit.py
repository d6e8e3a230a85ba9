"""Votes that wait for the disk at the same time share one sync.

For the coroutines of one event loop: a vote costs microseconds there, while the disk works in a
thread. How a line is written belongs to `stores.log`.
"""

import asyncio
from concurrent.futures import ThreadPoolExecutor

from dpo_pipeline.stores.log import AppendLog


class GroupCommit:
    """Lines that arrive during a sync are written together by the next one."""

    def __init__(self, log: AppendLog):
        self._log = log
        self._disk = ThreadPoolExecutor(1, thread_name_prefix="group-commit")
        self._waiting: list[tuple[bytes, asyncio.Future[None]]] = []
        self._writer: asyncio.Task[None] | None = None

    async def append(self, line: bytes) -> None:
        """Put one line (without its newline) on disk; on return it survives kill -9 and power loss.

        Raises:
            LogWriteError: nothing of it is in the file, nor of those written with it.
        """
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()
        self._waiting.append((line, done))
        if self._writer is None:
            self._writer = loop.create_task(self._write())
        await done

    async def _write(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting:
            batch, self._waiting = self._waiting, []
            error: Exception | None = None
            try:
                await loop.run_in_executor(self._disk, self._log.append_all, [line for line, _ in batch])
            except Exception as refused:  # whatever it is belongs to those who wait; none may wait for ever
                error = refused
            for _, done in batch:
                if not done.done():  # cancelled: its caller went away
                    done.set_exception(error) if error else done.set_result(None)
        self._writer = None
