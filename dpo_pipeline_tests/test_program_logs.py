"""What programs print, as it lies in files."""

import os
import pty
import subprocess
import sys
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import pytest

from dpo_pipeline import program_logs
from dpo_pipeline.program_logs import ProgramLogs, log_file, readable, tail
from dpo_pipeline_tests.programs_under_test import ports_of_their_own


class Line(NamedTuple):
    """As honcho hands it over."""

    type: str
    data: bytes | str
    time: datetime
    name: str | None
    colour: str | None


def line(data: bytes | str, name: str = "daemon") -> Line:
    return Line("line", data, datetime(2026, 1, 5, 10), name, "31")


def test_lines_lose_colours_and_leaked_lists_and_nothing_else() -> None:
    printed = [
        "\x1b[32m2026-01-05\x1b[0m - dagster - \x1b[34mINFO\x1b[0m - run started",
        "nanobind: leaked 11 instances!",
        ' - leaked instance 0x55 of type "_duckdb.DuckDBPyType"',
        " - ... skipped remainder",
        "nanobind: this is likely caused by a reference counting issue in the binding code.",
        "See https://nanobind.readthedocs.io/en/latest/refleaks.html",
        "",
        " - leaked into the log: a customer's words",
        "See https://example.org",
        "\x1b]0;a title\x07\x1b]8;;https://example.org\x1b\\a link\x1b]8;;\x1b\\",
    ]
    assert readable(printed) == ["2026-01-05 - dagster - INFO - run started", "See https://example.org", "a link"]


def test_each_program_has_a_file_that_does_not_grow_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program_logs, "FILE_BYTES", 2000)
    logs = ProgramLogs(tmp_path / "logs")
    for number in range(400):
        logs.write(line(f"line {number}\n".encode()))
    logs.write(line("serving starts\n", "serving"))
    logs.close()
    files = sorted(path.name for path in (tmp_path / "logs").iterdir())
    assert files == ["daemon.log", "daemon.log.1", "daemon.log.2", "daemon.log.3", "serving.log"]
    assert all(path.stat().st_size <= 2000 for path in (tmp_path / "logs").iterdir())
    last = tail(log_file(tmp_path / "logs", "daemon"))
    assert last.endswith("2026-01-05 10:00:00 line 399") and len(last.splitlines()) <= program_logs.TAIL_LINES
    assert tail(tmp_path / "nothing.log") == ""


WATCHED = """
import sys, threading
from dpo_pipeline import terminal_status
from dpo_pipeline.settings import load_settings
stopping = threading.Event()
threading.Timer(2.5, stopping.set).start()
terminal_status.watch_programs(load_settings(data_dir=sys.argv[1]), stopping)
"""


@pytest.mark.slow
def test_a_terminal_keeps_the_addresses_and_one_line_of_state(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    command = [sys.executable, "-c", WATCHED, str(tmp_path)]
    environment = {**os.environ, **ports_of_their_own(), "TERM": "xterm"}
    with subprocess.Popen(command, stdout=theirs, stderr=theirs, env=environment):
        os.close(theirs)
        shown = b""
        with suppress(OSError):  # the other side is closed
            while piece := os.read(ours, 4096):
                shown += piece
    os.close(ours)
    addresses, line = shown.decode().split("\x1b[?25l")
    assert [each.split()[0] for each in addresses.splitlines()] == ["the", "voting", "Dagster", "MLflow", "data"]
    assert line.count("starting: MLflow, Dagster, serving") >= 2, "looked at again"
    assert "\r\x1b[2Kstarting" in line and line.count("\n") == 2, "in its place, and gone at the end"
    assert line.endswith("\x1b[2Kstopping …\r\n")
