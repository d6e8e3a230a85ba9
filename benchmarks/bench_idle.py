"""What does it cost to leave the loop on while nobody uses it?

`dpo up` runs as anybody starts it, on a data directory of its own, until v1.0 serves and the daemon has settled; then
processor time and memory of all its programs are counted for ten minutes in which nobody asks, votes or looks. The
rival does the same: `dagster dev` with an empty project, and `mlflow server` beside it. Memory is proportional (PSS):
pages that programs share are counted once. Only processes of each tree are counted, so neighbours do not matter.
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
from reporting import Goal, report, say, show
from servers import free_port, wait_until_answering

from dpo_pipeline.program_environment import environment
from dpo_pipeline.settings import load_settings

SETTLE_S = 60.0
MAX_CPU_PERCENT, MAX_MEMORY_GB = 5.0, 1.6
# What each program is recognised by, the first that fits.
PROGRAMS = {
    "mlflow": "mlflow",
    "webserver": "dagster-webserver",
    "daemon": "dagster-daemon",
    "code server": "api grpc",
    "serving": "dpo serve",
}
EMPTY_PROJECT = "import dagster as dg\n\ndefs = dg.Definitions()\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0)
    args = parser.parse_args()
    rows = []
    for name, started in (("dpo up", our_programs), ("dagster dev + mlflow server", rivals)):
        with tempfile.TemporaryDirectory(prefix="bench-idle-") as folder, started(Path(folder)) as roots:
            time.sleep(SETTLE_S)
            say(f"{name}: {args.minutes:g} minutes of nothing")
            rows.append({"programs": name, **measured(roots, args.minutes * 60)})
    ours, theirs = rows
    show(f"Nobody uses it, {args.minutes:g} minutes", [{k: v for k, v in row.items() if k != "each"} for row in rows])
    show("Of these, ours", [{"program": name, **each} for name, each in ours["each"].items()])
    goals = [
        Goal("processor, % of one core:", ours["cpu_percent"], "at most", MAX_CPU_PERCENT),
        Goal("memory, GB:", ours["memory_gb"], "at most", MAX_MEMORY_GB),
    ]
    report("idle", goals, {"minutes": args.minutes, "ours": ours, "rival": theirs})


@contextmanager
def our_programs(folder: Path) -> Iterator[list[psutil.Process]]:
    settings = load_settings(
        data_dir=folder, ports={"serving": free_port(), "dagster": free_port(), "mlflow": free_port()}
    )
    ports = {f"DPO_PORTS__{name.upper()}": str(port) for name, port in settings.ports.model_dump().items()}
    command = [str(Path(sys.executable).with_name("dpo")), "up"]
    variables = environment(settings) | ports
    with (folder / "said").open("w+b") as said:
        up = subprocess.Popen(command, env=variables, stdout=said, stderr=said, start_new_session=True)
        with ended([up]) as roots:
            wait_until_answering(up, f"{settings.serving_address}/readyz", said, seconds=900)
            yield roots


@contextmanager
def rivals(folder: Path) -> Iterator[list[psutil.Process]]:
    (folder / "empty.py").write_text(EMPTY_PROJECT)
    dagster_port, mlflow_port = free_port(), free_port()
    bin_dir = Path(sys.executable).parent
    dagster = [str(bin_dir / "dagster"), "dev", "-f", "empty.py", "-p", str(dagster_port)]
    mlflow = [str(bin_dir / "mlflow"), "server", "--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}"]
    mlflow += ["--port", str(mlflow_port)]
    path = f"{bin_dir}{os.pathsep}{os.environ['PATH']}"
    variables = {**os.environ, "PATH": path, "DAGSTER_HOME": str(folder), "DAGSTER_DISABLE_TELEMETRY": "1"}
    addresses = (f"http://127.0.0.1:{dagster_port}/server_info", f"http://127.0.0.1:{mlflow_port}/health")
    with (folder / "said").open("w+b") as said:
        started = [
            subprocess.Popen(command, cwd=folder, env=variables, stdout=said, stderr=said, start_new_session=True)
            for command in (dagster, mlflow)
        ]
        with ended(started) as roots:
            for process, address in zip(started, addresses, strict=True):
                wait_until_answering(process, address, said)
            yield roots


@contextmanager
def ended(started: Sequence["subprocess.Popen[bytes]"]) -> Iterator[list[psutil.Process]]:
    """Their processes; at the end of the block they are asked to stop, and what is left of their groups is killed."""
    try:
        yield [psutil.Process(process.pid) for process in started]
    finally:
        for process in started:
            process.terminate()
        for process in started:
            try:
                process.wait(timeout=60)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def measured(roots: Sequence[psutil.Process], seconds: float) -> dict[str, Any]:
    """Processor time over the period and memory at its end, of the roots and all that they started."""
    before, start = cpu_seconds(roots), time.monotonic()
    time.sleep(seconds)
    elapsed, after, memory = time.monotonic() - start, cpu_seconds(roots), memory_bytes(roots)
    each = {
        name: {"cpu_percent": 100 * (after[name] - before[name]) / elapsed, "memory_mb": memory[name] / 1e6}
        for name in sorted(after)
    }
    return {
        "cpu_percent": sum(row["cpu_percent"] for row in each.values()),
        "memory_gb": sum(memory.values()) / 1e9,
        "each": each,
    }


def cpu_seconds(roots: Sequence[psutil.Process]) -> dict[str, float]:
    """By program, ended children included: runs come and go."""
    found: dict[str, float] = defaultdict(float)
    for process, name in programs_of(roots):
        times = process.cpu_times()
        found[name] += times.user + times.system + times.children_user + times.children_system
    return found


def memory_bytes(roots: Sequence[psutil.Process]) -> dict[str, float]:
    found: dict[str, float] = defaultdict(float)
    for process, name in programs_of(roots):
        found[name] += process.memory_full_info().pss
    return found


def programs_of(roots: Sequence[psutil.Process]) -> Iterator[tuple[psutil.Process, str]]:
    """Every process of the trees, and the program it belongs to: its own, or its parent's."""
    names: dict[int, str] = {}
    for root in roots:
        for process in (root, *root.children(recursive=True)):
            try:
                command, parent = " ".join(process.cmdline()), process.ppid()
            except (psutil.NoSuchProcess, psutil.ZombieProcess):
                continue
            inherited = names.get(parent, "supervision")
            names[process.pid] = next((name for name, mark in PROGRAMS.items() if mark in command), inherited)
            yield process, names[process.pid]


if __name__ == "__main__":
    main()
