"""One full cycle on Postgres, S3 and Ray with two servers; a server, the daemon and the database are killed."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from shutil import rmtree

import psutil
import pytest

from dpo_pipeline.engines import _for_nobody
from dpo_pipeline.stores.log import file_bytes
from dpo_pipeline_tests.examples import settings_in
from dpo_pipeline_tests.programs_under_test import eventually, free_port, free_ports

pytest.importorskip("ray", reason="make test-scaled installs it")
pytestmark = pytest.mark.nightly
MINUTES = 20


def is_server(command: list[str]) -> bool:
    return command[-1:] == ["serve"] and "dpo_pipeline.restart" not in command


def is_daemon(command: list[str]) -> bool:
    return any("dagster-daemon" in each for each in command) and "run" in command


def is_postgres(command: list[str]) -> bool:
    return Path(command[0]).name == "postgres" and "-D" in command if command else False


def kill(found: Callable[[list[str]], bool], below: psutil.Process) -> None:
    """The last that fits of the programs below one, as a full memory would."""
    fits = [each for each in below.children(recursive=True) if each.is_running() and found(each.cmdline())]
    assert fits, "nothing to kill"
    fits[-1].send_signal(signal.SIGKILL)


@pytest.mark.timeout(MINUTES * 60)
def test_the_loop_turns_while_its_parts_are_killed(tmp_path: Path) -> None:
    serving = free_ports(2)
    variables = {
        "DPO_DATA_DIR": str(tmp_path),
        "DPO_PORTS__SERVING": str(serving),
        "DPO_PORTS__DAGSTER": str(free_port()),
        "DPO_PORTS__MLFLOW": str(free_port()),
    }
    log, copy = tmp_path / "demo.log", settings_in(tmp_path).prefs_log
    with log.open("wb") as out:
        command = [sys.executable, "-m", "dpo_pipeline.cli", "demo", "--scaled"]
        process = subprocess.Popen(command, env={**os.environ, **variables}, stdout=out, stderr=out)
    programs = psutil.Process(process.pid)
    try:
        assert eventually(lambda: file_bytes(copy), bool, seconds=600), log.read_text()
        for fits in (is_server, is_daemon, is_postgres):
            kill(fits, programs)
            there = file_bytes(copy)
            assert eventually(lambda: file_bytes(copy), there.__lt__, seconds=120) > there, "nobody votes any more"
        assert process.wait(timeout=MINUTES * 60) == 0, log.read_text()
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(timeout=120)
        if os.getuid() == 0:  # then the database is not in the data folder
            rmtree(_for_nobody(tmp_path / "engines" / "postgres"), ignore_errors=True)
    told = log.read_text()
    assert re.search(r"✓ rollout of v1\.1: 4 of 4 all of the traffic", told), told
    left = [each.info["cmdline"] for each in psutil.process_iter(["cmdline"])]
    assert not [line for line in left if str(tmp_path) in " ".join(line or ())], "something is left running"
