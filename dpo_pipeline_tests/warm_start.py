"""Starts programs of ours from a process that has already imported the libraries they need.

Importing those takes four seconds of processor, and tests start `dpo serve` more than fifty times. Each is a process of
its own all the same, in the environment it is given, and runs what `python -m` runs. Of ours nothing is imported before
but how to import Gradio: some of the rest reads the environment then.
"""

import atexit
import os
import runpy
import signal
import subprocess
import sys
from functools import cache
from importlib import import_module
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import NamedTuple, NoReturn

import psutil

LIBRARIES = ("gradio", "gradio.components.navbar", "duckdb", "pyarrow", "sqlalchemy", "uvicorn", "prometheus_client")


class _Order(NamedTuple):
    module: str
    arguments: tuple[str, ...]
    environment: dict[str, str]
    log: Path


def start(module: str, *arguments: str, environment: dict[str, str], log: Path) -> psutil.Process:
    """`python -m module` with these arguments; what it says is added to `log`."""
    pipe = _nursery()
    pipe.send(_Order(module, arguments, environment, log))
    return psutil.Process(pipe.recv())


@cache
def _nursery() -> Connection:
    """Of one pytest worker, and ends with it."""
    ours, theirs = Pipe()
    with theirs:
        command = [sys.executable, "-m", __name__, str(theirs.fileno())]
        process = subprocess.Popen(command, pass_fds=[theirs.fileno()])
    atexit.register(lambda: (ours.close(), process.wait()))
    return ours


def _start_what_is_ordered(orders: Connection) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody here waits for those that end
    while True:
        try:
            order: _Order = orders.recv()
        except EOFError:
            return
        pid = os.fork()
        if not pid:
            orders.close()
            _become(order)
        orders.send(pid)


def _become(order: _Order) -> NoReturn:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.environ.clear()
    os.environ.update(order.environment)
    sys.path[:0] = filter(None, order.environment.get("PYTHONPATH", "").split(os.pathsep))
    with order.log.open("ab") as out:
        os.dup2(out.fileno(), sys.stdout.fileno())
        os.dup2(out.fileno(), sys.stderr.fileno())
    sys.argv[1:] = order.arguments
    runpy.run_module(order.module, run_name="__main__", alter_sys=True)
    sys.exit()


def main() -> None:
    from dpo_pipeline.serving.pages.gradio_import import import_gradio

    import_gradio()
    for library in LIBRARIES:
        import_module(library)
    with Connection(int(sys.argv[1])) as orders:
        _start_what_is_ordered(orders)


if __name__ == "__main__":
    main()
