"""Real programs for tests: on free ports of 127.0.0.1, stopped by themselves."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import httpx
import psutil

from dpo_pipeline_tests import warm_start

T = TypeVar("T")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def ports_of_their_own() -> dict[str, str]:
    """Variables for what looks whether the programs answer: a loop that runs on this machine is none of its."""
    return {f"DPO_PORTS__{program}": str(free_port()) for program in ("MLFLOW", "DAGSTER", "SERVING")}


def free_ports(count: int) -> int:
    """The first of so many in a row, as servers in a row take them."""
    while True:
        first = free_port()
        try:
            for port in range(first, first + count):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", port))
        except (OSError, OverflowError):
            continue
        return first


def eventually(look: Callable[[], T], there: Callable[[T], bool], seconds: float = 10) -> T:
    """What `look` sees, once it is as wanted or the time is up: some records follow a moment later."""
    deadline = time.monotonic() + seconds
    while not there(found := look()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return found


class Server:
    """`dpo serve` in a process of its own; `restart` after whatever killed it."""

    def __init__(self, variables: dict[str, str], port: int, log: Path):
        self.url = f"http://127.0.0.1:{port}"
        self.client = httpx.Client(base_url=self.url, timeout=60)
        self._environment = {**os.environ, **variables, "DPO_PORTS__SERVING": str(port)}
        self.log = log
        self._process: psutil.Process | None = None

    @property
    def pid(self) -> int:
        assert self._process
        return self._process.pid

    def start(self, ready: str = "/readyz") -> None:
        self._process = warm_start.start("dpo_pipeline.cli", "serve", environment=self._environment, log=self.log)
        self.wait_for(ready)

    def wait_for(self, path: str, seconds: float = 90) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            try:
                if self.client.get(path).status_code == 200:
                    return
            except httpx.HTTPError:
                pass
            assert self._process and self._process.is_running(), self.log.read_text()
            time.sleep(0.1)
        raise AssertionError(f"{path} was not ready in {seconds} s:\n{self.log.read_text()}")

    def kill(self) -> None:
        assert self._process
        self._process.kill()
        self._process.wait()
        self._process = None

    def stop(self) -> None:
        self.client.close()
        if self._process:
            assert self._process.is_running(), f"serving ended by itself:\n{self.log.read_text()}"
            self._process.terminate()
            self._process.wait(timeout=30)


@contextmanager
def serving(data_dir: Path, ready: str = "/readyz", **variables: Any) -> Iterator[Server]:
    # Nobody answers there: a test must not follow the MLflow that somebody has running at the usual port.
    # And each pair is a new one, unless a test is about the others.
    nobody = {"DPO_MLFLOW_URL": "http://127.0.0.1:9", "DPO_COLLECTION__REPEAT_SHARE": "0"}
    server = Server({"DPO_DATA_DIR": str(data_dir), **nobody, **variables}, free_port(), data_dir / "serve.log")
    server.start(ready)
    try:
        yield server
    finally:
        server.stop()


def wait_until_answering(
    address: str, running: "Sequence[subprocess.Popen[bytes]]", log: Path, seconds: float = 90
) -> None:
    """Until the address answers 200, while these programs run; what they said, where they do not get there."""
    deadline = time.monotonic() + seconds
    while True:
        with suppress(httpx.HTTPError):
            if httpx.get(address, timeout=5).status_code == 200:
                return
        assert time.monotonic() < deadline and all(process.poll() is None for process in running), log.read_text()
        time.sleep(0.2)


@contextmanager
def mlflow_server(directory: Path, *options: str) -> Iterator[str]:
    """A real MLflow server on SQLite; yields its address."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    directory.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{directory / 'mlflow.db'}"]
    command += ["--artifacts-destination", str(directory / "artifacts"), *options]
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    with (directory / "mlflow.log").open("wb") as out:
        process = subprocess.Popen(command, env=environment, stdout=out, stderr=out, start_new_session=True)
    try:
        wait_until_answering(f"{url}/health", [process], directory / "mlflow.log")
        yield url
    finally:
        with suppress(ProcessLookupError):  # a test may have killed it
            os.killpg(process.pid, signal.SIGTERM)
        process.wait(timeout=30)
