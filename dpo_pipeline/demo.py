"""`dpo demo`: the loop runs one full cycle before your eyes, from the first vote to a version in all of the traffic.

It starts the programs, lets simulated people use them over HTTP, shows what the sensors do, and
stops everything. Only the clock is compressed, and latency is judged more mildly, since everything
shares one machine (`COMPRESSED`); nothing else differs from `dpo up`.
"""

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass

from rich.console import Console

from dpo_pipeline import programs
from dpo_pipeline.demo_screen import DemoScreen
from dpo_pipeline.program_environment import environment
from dpo_pipeline.settings import load_settings
from dpo_pipeline.simulation.crowd import Crowd
from dpo_pipeline.stores.bank import read_bank
from dpo_pipeline.stores.key_ring import local_key
from dpo_pipeline.stores.ledger import DecisionRecord, Ledger, VersionRecord

# 24 h become about 4 s. The margins are the usual ones: what so few requests cannot rule out, each decision says.
COMPRESSED = {
    # Everything shares this machine's cores, Dagster's runs among them: p99 says little of the version here.
    "DPO_ROLLOUT__MAX_P99_MS": "10000",
    "DPO_ROLLOUT__DURATION_SCALE": "0.00005",
    "DPO_ROLLOUT__CHECK_EVERY_S": "2",
    "DPO_DAGSTER__SENSOR_INTERVAL_S": "2",
    "DPO_ROLLOUT__STAGING_LIMIT_H": "5000",
    "DPO_ROLLOUT__STAGE_LIMIT": "120",
}


@dataclass(frozen=True)
class DemoResult:
    version: VersionRecord
    decisions: list[DecisionRecord]
    votes: int
    seconds: float


def run_demo(console: Console, replicas: int = 1) -> DemoResult:
    """Start everything, watch one version through, stop everything.

    Args:
        replicas: servers; people use all of them.

    Raises:
        ServiceError: a program did not start or ended, or nothing was decided in time.
    """
    for name, value in COMPRESSED.items():
        os.environ.setdefault(name, value)
    settings = load_settings()
    programs.preflight(settings, replicas)
    programs.prepare(settings)
    started = time.monotonic()
    output = settings.logs_dir / "up.log"
    with output.open("w") as file:
        up = subprocess.Popen(
            [sys.executable, "-m", "dpo_pipeline.cli", "up", "--replicas", str(replicas)],
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=environment(settings),
        )
    addresses = [settings.serving_address]
    addresses += [f"http://{settings.ports.host}:{settings.ports.serving + number}" for number in range(1, replicas)]
    crowd = Crowd(addresses, read_bank(settings.bank_dir), pace=0.0, key=local_key(settings))
    try:
        with Ledger(settings.ledger_address) as ledger:
            version = DemoScreen(console, settings, ledger, crowd, up).until_decided()
            return DemoResult(version, ledger.decisions(version.name), crowd.votes, time.monotonic() - started)
    finally:
        crowd.stop()
        _stop(up)


def _stop(up: "subprocess.Popen[bytes]") -> None:
    """Ask honcho to end its programs; whatever is left of the group afterwards is killed."""
    if up.poll() is None:
        up.send_signal(signal.SIGTERM)
        try:
            up.wait(timeout=40)
        except subprocess.TimeoutExpired:
            os.killpg(up.pid, signal.SIGKILL)
            up.wait()
