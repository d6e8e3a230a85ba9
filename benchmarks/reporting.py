"""How a benchmark reports: a table for people, one JSON line, and the same in `results/`. Nothing is measured here."""

import json
import os
import platform
import resource
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table

RESULTS = Path(__file__).resolve().parent / "results"
QUIET_CORES = 0.15
VECTOR_FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx512_fp16", "amx_tile", "asimd", "sve")
BF16_FLAGS = ("avx512_bf16", "amx_bf16", "bf16")
# Programs under these compute as on an older processor.
LIMITS = ("ONEDNN_MAX_CPU_ISA", "ATEN_CPU_CAPABILITY", "MKL_ENABLE_INSTRUCTIONS")
PACKAGES = ("torch", "transformers", "trl", "peft", "duckdb", "dagster")


@dataclass(frozen=True)
class Goal:
    """One thing that was promised; `measured` is compared with `required` as `sense` says."""

    name: str
    measured: float
    sense: str
    required: float

    @property
    def met(self) -> bool:
        return self.measured >= self.required if self.sense == "at least" else self.measured <= self.required

    def __str__(self) -> str:
        said = "met" if self.met else "MISSED"
        return f"{said}: {self.name} {self.measured:.3g}, {self.sense} {self.required:g} was the goal"


class Neighbours:
    """How many cores other programs kept busy since this was made; children of ours count once they are waited for."""

    def __init__(self) -> None:
        self._start = time.perf_counter(), _busy_s(), _own_s()

    def cores(self) -> float:
        wall, busy, own = self._start
        elapsed = time.perf_counter() - wall
        return max(0.0, (_busy_s() - busy) - (_own_s() - own)) / elapsed


def _busy_s() -> float:
    times = psutil.cpu_times()
    return float(sum(times[:3]) + getattr(times, "irq", 0.0) + getattr(times, "softirq", 0.0))


def _own_s() -> float:
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


_SINCE_START = Neighbours()


def show(title: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Print rows with the same keys as one table."""
    table = Table(title=title, title_justify="left")
    for number, name in enumerate(rows[0]):
        table.add_column(name, justify="right" if number else "left")
    for row in rows:
        table.add_row(*(_cell(value) for value in row.values()))
    _console().print(table)


def report(name: str, goals: Sequence[Goal], measured: Mapping[str, Any]) -> None:
    """Say whether each goal was met, write `results/<name>.json`, and print it as one line.

    What was measured as on an older processor is kept apart: `results/<name>_held_to_avx2.json`.
    """
    for goal in goals:
        _console().print(str(goal), highlight=False)
    neighbours = _SINCE_START.cores()
    quiet = neighbours <= QUIET_CORES
    if not quiet:
        _console().print(f"NOISY: other programs kept {neighbours:.2f} cores busy meanwhile; run it again alone.")
    result = {
        "benchmark": name,
        "met": all(goal.met for goal in goals),
        "goals": [{**asdict(goal), "met": goal.met} for goal in goals],
        "measured": measured,
        "quiet": quiet,
        "neighbours_cores": neighbours,
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {"python": platform.python_version(), **_versions()},
        "commit": _commit(),
        "device": _device(),
    }
    line = json.dumps(_rounded(result), ensure_ascii=False)
    RESULTS.mkdir(exist_ok=True)
    held = [os.environ[variable].lower() for variable in LIMITS if variable in os.environ]
    (RESULTS / f"{'_held_to_'.join([name, *held[:1]])}.json").write_text(line + "\n", encoding="utf-8")
    print(line)


def plot(name: str, svg: str) -> None:
    """Write `results/<name>.svg` and say where it is."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.svg"
    path.write_text(svg, encoding="utf-8")
    say(f"The plot: {path}")


def say(text: str) -> None:
    """A line of progress, at once."""
    print(text, flush=True)


def _console() -> Console:
    console = Console()
    return console if console.is_terminal else Console(width=120)


def _cell(value: Any) -> str:
    return f"{value:,.4g}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)


def _versions() -> dict[str, str]:
    """Of what is installed: a machine with a GPU may have no more than a training needs."""
    found = {}
    for package in PACKAGES:
        with suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


def _rounded(value: Any) -> Any:
    """Numbers to six digits: more would be noise in a committed file."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, Mapping):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(item) for item in value]
    return value


def _commit() -> str:
    """The commit, with `+` where the working tree differs from it."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(RESULTS.parent), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()

    changed = git("status", "--porcelain", "--", "../dpo_pipeline", ".")
    return (git("rev-parse", "--short", "HEAD") or "unknown") + ("+" if changed else "")


def _device() -> dict[str, Any]:
    """The processor's model, its vector and bf16 units, and what keeps programs from using them."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    facts = dict(reversed([[part.strip() for part in line.split(":", 1)] for line in lines if ":" in line]))
    name = facts.get("model name") or platform.processor() or platform.machine()
    if "cpu family" in facts:
        name += f", family {facts['cpu family']} model {facts['model']}"
    flags = (facts.get("flags") or facts.get("Features") or "").split()
    return {
        "cpu": name,
        "cores": os.cpu_count(),
        "vector": [flag for flag in VECTOR_FLAGS if flag in flags],
        "bf16": [flag for flag in BF16_FLAGS if flag in flags],
        "held_to": {variable: os.environ[variable] for variable in LIMITS if variable in os.environ},
    }
