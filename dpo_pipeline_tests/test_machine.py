"""What a container, a service or an affinity leaves of the machine."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from dpo_pipeline.machine import cores, memory_bytes
from dpo_pipeline.program_environment import environment
from dpo_pipeline_tests.examples import settings_in

GB = 2**30
TOTAL = int(psutil.virtual_memory().total)


def machine(root: Path, group: str, limits: dict[str, str]) -> Path:
    """A root with this process's line of control groups, and the files of limits by their path."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(group)
    for name, text in limits.items():
        path = root / "sys/fs/cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_without_control_groups_it_is_the_machine(tmp_path: Path) -> None:
    assert (cores(tmp_path), memory_bytes(tmp_path)) == (len(os.sched_getaffinity(0)), TOTAL)


def test_a_container_of_version_2(tmp_path: Path) -> None:
    root = machine(tmp_path, "0::/\n", {"cpu.max": "50000 100000\n", "memory.max": f"{GB}\n"})
    assert (cores(root), memory_bytes(root)) == (1, GB)


def test_a_limit_around_the_service_holds_within(tmp_path: Path) -> None:
    root = machine(
        tmp_path,
        "0::/system.slice/dpo.service\n",
        {
            "memory.max": "max\n",
            "system.slice/memory.max": f"{GB // 2}\n",
            "system.slice/dpo.service/memory.max": f"{GB}\n",
            "system.slice/dpo.service/cpu.max": "max 100000\n",
        },
    )
    assert memory_bytes(root) == GB // 2
    assert cores(root) == cores(tmp_path / "nothing")


def test_a_container_of_version_1_sees_its_own_group_at_the_top(tmp_path: Path) -> None:
    root = machine(
        tmp_path,
        "5:memory:/docker/4f\n3:cpu,cpuacct:/docker/4f\n",
        {
            "memory/memory.limit_in_bytes": f"{GB}\n",
            "cpu/cpu.cfs_quota_us": "100000\n",
            "cpu/cpu.cfs_period_us": "100000\n",
        },
    )
    assert (cores(root), memory_bytes(root)) == (1, GB)


def test_version_1_without_a_limit(tmp_path: Path) -> None:
    root = machine(
        tmp_path,
        "5:memory:/\n3:cpu,cpuacct:/\n",
        {
            "memory/memory.limit_in_bytes": "9223372036854771712\n",
            "cpu/cpu.cfs_quota_us": "-1\n",
            "cpu/cpu.cfs_period_us": "100000\n",
        },
    )
    assert (cores(root), memory_bytes(root)) == (cores(tmp_path / "nothing"), TOTAL)


@pytest.fixture
def group() -> Iterator[Path]:
    """A real control group for memory, of whichever version is here."""
    for top in ("/sys/fs/cgroup/memory", "/sys/fs/cgroup"):
        path = Path(top) / f"dpo-test-{os.getpid()}"
        try:
            path.mkdir()
        except OSError:
            continue
        if any((path / name).exists() for name in ("memory.max", "memory.limit_in_bytes")):
            yield path
            path.rmdir()
            return
        path.rmdir()
    pytest.skip("control groups cannot be made here")


def test_a_process_in_a_real_group_knows_its_limit(group: Path) -> None:
    limit = next(name for name in ("memory.max", "memory.limit_in_bytes") if (group / name).exists())
    (group / limit).write_text(str(GB))
    code = (
        f"import os; open({str(group / 'cgroup.procs')!r}, 'w').write(str(os.getpid()));"
        "from dpo_pipeline.machine import memory_bytes; print(memory_bytes())"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert int(told.stdout) == GB


def test_programs_take_the_threads_that_are_paid_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dpo_pipeline.program_environment.cores", lambda: 2)
    monkeypatch.setattr("os.cpu_count", lambda: 64)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    variables = environment(settings_in(tmp_path))
    assert (variables["OMP_NUM_THREADS"], variables["DPO_RUN_SERVING_THREADS"]) == ("2", "1")
    monkeypatch.setenv("OMP_NUM_THREADS", "7")  # somebody's own choice
    assert environment(settings_in(tmp_path))["OMP_NUM_THREADS"] == "7"
