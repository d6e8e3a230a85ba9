"""Who decodes which piece of the log: this process, or for a long log several of their own, in the order of the log.

The others are plain programs on two pipes (`python -m dpo_pipeline.stores.decode_pool`), not
`multiprocessing`: they import nothing of the program that starts them, be it a Dagster run, a daemon
or a test, and they end with it, however it ends. A task goes out as one line of JSON; a line of JSON
and an Arrow stream come back.
"""

import os
import subprocess
import sys
from collections import deque
from collections.abc import Generator, Iterable
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa

from dpo_pipeline.errors import LogError, LogReplaced
from dpo_pipeline.machine import cores
from dpo_pipeline.settings import QualityCriteria
from dpo_pipeline.stores.decode import Piece, Quarantined, Task, read_piece
from dpo_pipeline.stores.log import file_bytes
from dpo_pipeline.stores.log_reading import Position, spans

SPAN_BYTES = 48 * 1024 * 1024
# Two keep the process that fills the warehouse busy all the time.
WORKERS = 2
# Below this, starting workers takes longer than they save.
PARALLEL_BYTES = 64 * 1024 * 1024


def read_log(
    log: Path, start: Position, max_line_bytes: int, criteria: QualityCriteria
) -> Generator[Piece, None, None]:
    """Everything after `start`, piece by piece.

    Raises:
        LogReplaced: the log shrank or is another file than before.
    """
    pieces = spans(log, start, SPAN_BYTES)
    tasks = (Task(str(log), begin, until, max_line_bytes, criteria) for begin, until in pieces)
    new_bytes = file_bytes(log) - start.offset
    if new_bytes < PARALLEL_BYTES or cores() < 2:
        yield from map(read_piece, tasks)
    else:
        yield from _side_by_side(tasks)


def _side_by_side(tasks: Iterable[Task]) -> Generator[Piece, None, None]:
    with ExitStack() as stack:
        idle = [stack.enter_context(closing(_Worker())) for _ in range(WORKERS)]
        busy: deque[_Worker] = deque()
        for task in tasks:
            done = None if idle else busy[0].result()
            worker = idle.pop() if idle else busy.popleft()
            worker.begin(task)
            busy.append(worker)
            if done:
                yield done
        for worker in busy:
            yield worker.result()


class _Told(msgspec.Struct):
    """What a worker says before it hands over the votes; `replaced` instead of them where the log was refused."""

    end: Position
    bad: list[Quarantined]
    replaced: str = ""


class _Worker:
    """A process that decodes one piece at a time."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", "dpo_pipeline.stores.decode_pool"]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._process.stdin and self._process.stdout
        self._tasks, self._results = self._process.stdin, self._process.stdout

    def begin(self, task: Task) -> None:
        with suppress(BrokenPipeError):  # `result` says that it ended.
            os.write(self._tasks.fileno(), msgspec.json.encode(task, enc_hook=_as_dict) + b"\n")

    def result(self) -> Piece:
        line = self._results.readline()
        if not line:
            raise LogError(
                f"A process that decodes votes ended with status {self._process.wait()}; the lines it wrote to stderr "
                "say why. Nothing of the current batch was stored: run it again."
            )
        told = msgspec.json.decode(line, type=_Told)
        if told.replaced:
            raise LogReplaced(told.replaced)
        with pa.ipc.open_stream(self._results) as stream:
            return Piece(stream.read_all(), told.bad, told.end)

    def close(self) -> None:
        self._process.kill()
        with self._process:
            pass


def _as_dict(value: Any) -> Any:
    """The criteria, which msgspec does not know how to write."""
    return value.model_dump()


def _as_criteria(wanted: type, value: Any) -> Any:
    return wanted(**value)


def main() -> None:
    """Decode what stdin asks for until it ends."""
    for line in sys.stdin.buffer:
        task = msgspec.json.decode(line, type=Task, dec_hook=_as_criteria)
        try:
            piece = read_piece(task)
        except LogReplaced as error:
            sys.stdout.buffer.write(msgspec.json.encode(_Told(task.start, [], str(error))) + b"\n")
        else:
            sys.stdout.buffer.write(msgspec.json.encode(_Told(piece.end, piece.bad)) + b"\n")
            with pa.ipc.new_stream(sys.stdout.buffer, piece.votes.schema) as stream:
                stream.write_table(piece.votes)
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
