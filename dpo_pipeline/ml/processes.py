"""One training on several GPUs of a machine: a process each, which share every batch and average their gradients.

They meet through a file and speak over loopback, so that nobody else can join them. The adapter is equal to that of
one process but for rounding: sums are taken in another order.
"""

import logging
import multiprocessing.connection
import os
import queue
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from logging.handlers import QueueHandler
from typing import Any, TypeVar

from dpo_pipeline.errors import DpoError, TaskFailed, WorkerEnded
from dpo_pipeline.in_words import fault
from dpo_pipeline.machine import cores
from dpo_pipeline.ml.compute import compute_of
from dpo_pipeline.settings import ModelSettings

T = TypeVar("T")
LOOK_S, LAST_WORDS_S = 0.2, 1.0
AGAIN = (
    "Run the step again: it resumes from its last checkpoint. -9 means that something killed it, which is what Linux "
    "does without memory."
)
PRELOADED = ["torch", "trl", "peft", "datasets"]
log = logging.getLogger("dpo_pipeline")


def how_many(model: ModelSettings, asked: int | None, batch_size: int) -> int:
    """Processes that train together: one for each GPU or as many as asked for, of which each takes an equal part of a
    batch."""
    import torch

    gpus = torch.cuda.device_count() if compute_of(model).on_gpu else 0
    most = min(asked or gpus, gpus) if gpus else asked or 1
    return max(count for count in range(1, most + 1) if batch_size % count == 0)


def world_size() -> int:
    """How many processes train together; 1 outside `together`."""
    import torch.distributed

    return torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1


def share_of(batch_size: int) -> int:
    """Of a batch, what this process takes."""
    return batch_size // world_size()


def is_first() -> bool:
    """Whether this process writes what all of them make."""
    import torch.distributed

    return not torch.distributed.is_initialized() or torch.distributed.get_rank() == 0


def wait_for_all() -> None:
    """Go on once every process has come here."""
    import torch.distributed

    if torch.distributed.is_initialized():
        torch.distributed.barrier()


@contextmanager
def first_then_others() -> Iterator[None]:
    """One process does it, and the others once it is done."""
    if not is_first():
        wait_for_all()
    yield
    if is_first():
        wait_for_all()


def together(count: int, train: Callable[[], T], on_gpu: bool = False) -> T:
    """What the first of so many processes returns; all do the same.

    Args:
        train: a function of a module, with arguments; all can be pickled.
        on_gpu: each has a GPU of its own.

    Raises:
        DpoError: the training's own, of whichever process.
        TaskFailed: anything else that one of them met, with its traceback.
        WorkerEnded: one was killed, or ended without a result.
    """
    from torch.multiprocessing import ProcessExitedException, ProcessRaisedException, get_context, start_processes

    # What all of them import takes many seconds: here one process does it, of which the others are copies. CUDA cannot
    # be copied once anything has looked for it, nor can what macOS computes with.
    method = "forkserver" if sys.platform == "linux" and not on_gpu else "spawn"
    context = get_context(method)
    if method == "forkserver":
        context.set_forkserver_preload(PRELOADED)
    told: queue.Queue[Any] = context.Queue()
    with tempfile.TemporaryDirectory(prefix="dpo-training-") as folder:
        arguments = count, on_gpu, f"file://{folder}/meeting", train, told
        try:
            running = start_processes(_one_of, arguments, nprocs=count, join=False, start_method=method)
        except (EOFError, OSError) as error:
            raise WorkerEnded(f"The processes of the training could not be started: {fault(error)}. {AGAIN}") from error
        outcome: list[Any] = []
        ended: ProcessRaisedException | ProcessExitedException | None = None
        try:
            while not running.join(timeout=LOOK_S):
                outcome += _read(told)
        except (ProcessRaisedException, ProcessExitedException) as error:
            ended = error
        finally:
            for process in running.processes:
                process.kill()
        outcome += _read(told, patience_s=LAST_WORDS_S)
    for failure in outcome:
        # What the training itself says comes before what others met when that one was gone.
        if isinstance(failure, DpoError):
            raise failure from None
    if isinstance(ended, ProcessRaisedException):
        raise TaskFailed(f"A process of the training failed: {ended}") from ended
    if ended or not outcome:
        raise WorkerEnded(
            f"A process of the training ended with status {ended.exit_code if ended else 0} and no result. {AGAIN}"
        ) from ended
    return outcome[0]  # type: ignore[no-any-return]


def _read(told: "queue.Queue[Any]", patience_s: float = 0.01) -> list[Any]:
    """Results and errors that have come; lines of the log go on to whoever listens here."""
    found = []
    with suppress(queue.Empty):
        while True:
            message = told.get(timeout=patience_s)
            if isinstance(message, logging.LogRecord):
                log.handle(message)
            else:
                found.append(message)
    return found


def _end_with_the_first() -> None:
    """What whoever started this process leaves behind when it is killed ends too."""
    parent = multiprocessing.parent_process()
    assert parent is not None, "started by `together`"
    multiprocessing.connection.wait([parent.sentinel])
    os._exit(1)


def _one_of(
    rank: int, count: int, on_gpu: bool, meeting: str, train: Callable[[], Any], told: "queue.Queue[Any]"
) -> None:
    """The work of one process."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    threading.Thread(target=_end_with_the_first, name="parent", daemon=True).start()
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(count), LOCAL_WORLD_SIZE=str(count))
    loopback = "lo0" if sys.platform == "darwin" else "lo"
    os.environ.update(GLOO_SOCKET_IFNAME=loopback, NCCL_SOCKET_IFNAME=loopback)
    threads = max(cores() // count, 1)
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    import torch

    torch.set_num_threads(min(torch.get_num_threads(), threads))  # in a container the variable counts for all of them
    if on_gpu:
        torch.cuda.set_device(rank)
    if rank == 0:
        log.setLevel(logging.INFO)
        log.addHandler(QueueHandler(told))
    torch.distributed.init_process_group("nccl" if on_gpu else "gloo", init_method=meeting, rank=rank, world_size=count)
    try:
        result = train()
        if rank == 0:
            told.put(result)
    except DpoError as error:
        told.put(error)
        raise SystemExit(1) from error
    finally:
        torch.distributed.destroy_process_group()
