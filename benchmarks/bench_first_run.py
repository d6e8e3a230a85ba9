"""How long does somebody wait who starts it for the first time?

From a finished installation, on an empty data directory, `dpo demo` as `make demo` runs it: seconds until `/readyz`
answers at all (and says what is being made), until v1.0 serves, and until v1.1 is decided. With `--busy`, all of it
shares one core with a program that never rests, as on a machine eight times slower. There is no rival: nothing else
does this; the goals are the README's promises.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from reporting import Goal, report, say, show
from servers import free_port

from dpo_pipeline.program_environment import environment
from dpo_pipeline.settings import Settings, load_settings
from dpo_pipeline.stores.ledger import Ledger

READY_S, SERVING_S, DECIDED_S = 45, 90, 300


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--busy", action="store_true", help="all on one core, which another program keeps busy")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-first-run-") as folder, core_taken(args.busy):
        ports = {"serving": free_port(), "dagster": free_port(), "mlflow": free_port()}
        found = first_run(load_settings(data_dir=Path(folder), ports=ports))
    show("First run, seconds", [found])
    name = "first_run_one_busy_core" if args.busy else "first_run"
    goals = [Goal("status of `dpo demo`:", found["status"], "at most", 0)]
    if not args.busy:
        goals += [
            Goal("/readyz answers, s:", found["readyz_answers"], "at most", READY_S),
            Goal("v1.0 serves, s:", found["v1.0_serves"], "at most", SERVING_S),
            Goal("v1.1 is decided, s:", found["v1.1_decided"], "at most", DECIDED_S),
        ]
    report(name, goals, found)


def first_run(settings: Settings) -> dict[str, Any]:
    ports = {f"DPO_PORTS__{name.upper()}": str(port) for name, port in settings.ports.model_dump().items()}
    began = time.monotonic()
    demo = subprocess.Popen([str(Path(sys.executable).with_name("dpo")), "demo"], env=environment(settings) | ports)
    answers = serves = 0.0
    while demo.poll() is None:
        status = readyz(settings)
        answers = answers or (time.monotonic() - began if status else 0.0)
        serves = serves or (time.monotonic() - began if status == 200 else 0.0)
        time.sleep(0.5)
    with Ledger(settings.ledger_address) as ledger:
        versions = {record.name: record.status for record in ledger.versions()}
    say(f"versions: {versions}")
    return {
        "status": demo.returncode,
        "readyz_answers": answers,
        "v1.0_serves": serves,
        "v1.1_decided": time.monotonic() - began,
        "v1.1": versions.get("v1.1", "none"),
    }


def readyz(settings: Settings) -> int:
    """The status of `/readyz`; 0: nobody answers."""
    try:
        return httpx.get(f"{settings.serving_address}/readyz", timeout=5).status_code
    except httpx.HTTPError:
        return 0


@contextmanager
def core_taken(wanted: bool) -> Iterator[None]:
    """Keep this process, and all that it starts, on one core, beside a program that never rests."""
    if not wanted:
        yield
        return
    usual = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(usual)})
    neighbour = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        neighbour.kill()
        neighbour.wait()
        os.sched_setaffinity(0, usual)


if __name__ == "__main__":
    main()
