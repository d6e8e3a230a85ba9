"""Before the programs start: what must be free, and what is told where it is not."""

import fcntl
import logging
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from dpo_pipeline.errors import PortTaken
from dpo_pipeline.program_environment import environment
from dpo_pipeline.program_logs import OneLine
from dpo_pipeline.programs import preflight, prepare
from dpo_pipeline.settings import PROJECT_DIR, Settings
from dpo_pipeline.stores.ledger import Ledger
from dpo_pipeline_tests.examples import settings_in
from dpo_pipeline_tests.programs_under_test import eventually, free_port, free_ports


def test_a_taken_port_is_named_with_the_setting_that_moves_it(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        ports = {"serving": free_port(), "dagster": port, "mlflow": free_port()}
        with pytest.raises(PortTaken, match=rf"Port {port} for dagster .*DPO_PORTS__DAGSTER"):
            preflight(settings_in(tmp_path, ports=ports))


def test_servers_want_as_many_ports_in_a_row(tmp_path: Path) -> None:
    first = free_ports(3)
    settings = settings_in(tmp_path, ports={"serving": first, "dagster": first + 2, "mlflow": free_port()})
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", first + 1))
        taken.listen()
        with pytest.raises(PortTaken, match=f"Port {first + 1} for serving"):
            preflight(settings, replicas=2)
    with pytest.raises(PortTaken, match=rf"Port {first + 2} is wanted by two programs, one of them dagster"):
        preflight(settings, replicas=3)
    last = settings_in(tmp_path, ports={"serving": 65_535, "dagster": first, "mlflow": first + 1})
    with pytest.raises(PortTaken, match="Port 65536 for serving cannot be used"):
        preflight(last, replicas=2)


def test_somebody_elses_mlflow_needs_no_port(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        ports = {"serving": free_port(), "dagster": free_port(), "mlflow": taken.getsockname()[1]}
        preflight(settings_in(tmp_path, ports=ports, mlflow_url="http://127.0.0.1:1"))


@pytest.mark.slow
def test_a_second_daemon_is_refused_and_the_first_leaves_no_lock(tmp_path: Path) -> None:
    """Real daemons; the first one is killed with -9, and a third may start."""
    settings = settings_in(tmp_path)
    prepare(settings)
    command = [sys.executable, "-m", "dpo_pipeline.cli", "daemon"]
    variables = environment(settings)

    def started() -> "subprocess.Popen[bytes]":
        process = subprocess.Popen(
            command, env=variables, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        alive = eventually(lambda: heartbeat(settings), lambda beat: beat, seconds=60)
        assert alive and process.poll() is None
        return process

    def heartbeat(settings: Settings) -> bool:
        """Somebody holds the lock."""
        with (settings.dagster_home / "daemon.lock").open("a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
        return False

    first = started()
    try:
        second = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=60, check=False)
        assert second.returncode == 1 and "Another Dagster daemon" in second.stderr
    finally:
        os.killpg(first.pid, signal.SIGKILL)
        first.wait()
    assert eventually(lambda: heartbeat(settings), lambda beat: not beat) is False
    third = started()
    os.killpg(third.pid, signal.SIGKILL)
    third.wait()


@pytest.mark.slow
def test_a_program_that_is_killed_is_started_again_and_stops_when_asked(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    script = f"import os, time; open({str(pids)!r}, 'a').write(f'{{os.getpid()}} '); time.sleep(60)"
    command = [sys.executable, "-m", "dpo_pipeline.restart", sys.executable, "-c", script]

    def started(count: int) -> list[int]:
        seen = eventually(lambda: pids.read_text().split() if pids.exists() else [], lambda seen: len(seen) == count)
        assert len(seen) == count
        return [int(pid) for pid in seen]

    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True) as keeper:
        [first] = started(1)
        os.kill(first, signal.SIGKILL)
        _, second = started(2)
        os.killpg(keeper.pid, signal.SIGTERM)
        _, said = keeper.communicate(timeout=20)
    assert keeper.returncode == 128 + signal.SIGTERM and not Path(f"/proc/{second}").exists()
    assert "ended with status -9" in said and said.count("started again") == 1


@pytest.mark.slow
def test_a_program_that_fails_at_once_is_given_up_with_its_status() -> None:
    command = [sys.executable, "-m", "dpo_pipeline.restart", sys.executable, "-c", "raise SystemExit(7)"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 7 and done.stderr.count("ended with status 7") == 3
    assert "3 times in a row" in done.stderr


@pytest.mark.slow
def test_databases_are_made_once_before_programs_race_for_them(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    prepare(settings)
    prepare(settings)
    assert (settings.dagster_home / "dagster.yaml").resolve() == PROJECT_DIR / "dagster.yaml"
    with Ledger(settings.ledger_address) as ledger:
        assert ledger.versions() == []
    assert environment(settings)["DAGSTER_HOME"] == str(settings.dagster_home)


@pytest.mark.slow
def test_an_error_of_ours_is_one_line_and_status_1(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "dpo_pipeline.cli", "import", str(tmp_path / "nothing.jsonl")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "error: " in done.stderr and "No such file" in done.stderr


PAIR = '{"prompt": "Why?", "chosen": "Because. It is.", "rejected": "No idea at all"}'


@pytest.mark.slow
def test_what_commands_write_is_for_their_own_account(tmp_path: Path) -> None:
    (tmp_path / "pairs.jsonl").write_text(PAIR)
    variables = {**os.environ, "DPO_DATA_DIR": str(tmp_path / "data")}
    command = [sys.executable, "-m", "dpo_pipeline.cli", "import", str(tmp_path / "pairs.jsonl")]
    subprocess.run(command, env=variables, capture_output=True, check=True)
    [log] = (tmp_path / "data").rglob("prefs.jsonl")
    assert [oct(path.stat().st_mode & 0o777) for path in (log, log.parent)] == ["0o600", "0o700"]


@pytest.mark.slow
def test_a_name_cannot_move_the_cursor(tmp_path: Path) -> None:
    name = tmp_path / "\x1b[2Jpairs :smile: [bold].jsonl"
    name.write_text(PAIR)
    variables = {**os.environ, "DPO_DATA_DIR": str(tmp_path / "data"), "FORCE_COLOR": "1"}
    command = [sys.executable, "-m", "dpo_pipeline.cli", "import", str(name), str(tmp_path / "\x1b]0;title.jsonl")]
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "\x1b[2J" not in done.stdout and "\x1b]0;" not in done.stderr
    assert ":smile: [bold]" in done.stdout


def test_a_message_of_a_log_is_one_line() -> None:
    record = logging.LogRecord("x", logging.INFO, "", 0, "%s", ("asked\nINFO forged: promoted\x1b[2J",), None)
    assert OneLine("%(levelname)s %(message)s").format(record) == "INFO asked\\nINFO forged: promoted\\e[2J"


def test_an_old_python_is_refused_with_the_cure(tmp_path: Path) -> None:
    old = tmp_path / "python3"
    old.write_text('#!/bin/sh\n[ "$1" = "--version" ] && echo "Python 3.8.1"\nexit 1\n')
    old.chmod(0o755)
    (tmp_path / "python").symlink_to(old)
    done = subprocess.run(
        ["/bin/sh", str(PROJECT_DIR / "tools" / "check_machine.sh"), str(old)],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": f"{tmp_path}:/usr/bin:/bin"},
    )
    if done.returncode == 0:
        pytest.skip("the system's own python3 is recent enough to be taken instead")
    assert "Python 3.11, 3.12, 3.13 or 3.14 is required; found: Python 3.8.1" in done.stderr
