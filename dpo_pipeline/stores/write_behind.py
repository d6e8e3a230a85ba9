"""Records that may be lost with the power: collected for a moment and written together by a thread."""

import logging
import queue
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")
PAUSE_S = 0.05
log = logging.getLogger(__name__)


class WriteBehind(Generic[T]):
    """`put` costs next to nothing; what was put is written within about 50 ms, or by `close`.

    Args:
        write: all of them or, raising, none.
    """

    def __init__(self, write: Callable[[list[T]], None], name: str):
        self._write, self._name = write, name
        self._queue: queue.SimpleQueue[T | None] = queue.SimpleQueue()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._work, name=f"write {name}", daemon=True)
        self._thread.start()

    def put(self, record: T) -> None:
        self._queue.put(record)

    def close(self) -> None:
        self._closed.set()
        self._queue.put(None)
        self._thread.join(timeout=10)

    def _work(self) -> None:
        while (first := self._queue.get()) is not None:
            self._closed.wait(PAUSE_S)
            records, last = [first], False
            while not self._queue.empty():
                record = self._queue.get()
                if record is None:
                    last = True
                else:
                    records.append(record)
            try:
                self._write(records)
            except Exception as error:
                self._write_singly(records, error)
            if last:
                return

    def _write_singly(self, records: list[T], error: Exception) -> None:
        """One record that cannot be written must not cost those that came at the same moment."""
        lost = len(records)
        if lost > 1:
            for record in records:
                try:
                    self._write([record])
                    lost -= 1
                except Exception as its_own:
                    error = its_own
        if lost:
            log.error("%d records of %s could not be written and are lost", lost, self._name, exc_info=error)
