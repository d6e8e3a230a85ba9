"""Every benchmark still runs, in its smallest form: its figures mean nothing here, and its results are thrown away.

Whatever is measured goes on changing under a benchmark that nobody runs for weeks, and it can then neither begin nor
end when its figure is wanted.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from dpo_pipeline.settings import PROJECT_DIR

BENCHMARKS = PROJECT_DIR / "benchmarks"
LONGEST_S = 1200
SMALLEST = {
    "bench_feedback_events": "--events 20000",
    "bench_gateway": "--requests 100 --rounds 1",
    "bench_generation": "--repeats 1",
    "bench_gpu": "",
    "bench_idle": "--minutes 0.2",
    "bench_ingest": "--rows 20000 --sample 200 --ticks 2",
    "bench_load": "--repeats 1",
    "bench_orchestration": "--repeats 1",
    "bench_page": "--votes 3",
    "bench_pairs": "",
    "bench_ray": "--turns 1",
    "bench_scaled": "--votes 2000 --rows 20000",
    "bench_serving": "--requests 32 --rounds 1",
    "bench_training": "--pairs 40 --repeats 1",
    "bench_voters": "",
    "bench_votes": "--votes 200 --rounds 1",
    "study_feedback": "--seeds 2 --samples 1",
    "study_hour": "--minutes 2",
    "study_improvement": "--seeds 2 --samples 1 --arms default",
    "study_model_ceiling": "--samples 1",
    "study_prompt_choice": "--seeds 2 --samples 1",
    "study_rollout": "--runs 4",
    "study_stuffing": "",
    "study_team_of_eight": "--runs 2 --days 10",
}
SCALED = ("bench_ray", "bench_scaled")
ELSEWHERE = {
    "bench_eight_bit": "the model of `make real`",
    "bench_first_run": "what `make demo` does",
    "bench_following": "what `make vllm-cpu` adds",
    "bench_real_serving": "the model of `make real`",
    "bench_real_training": "the model of `make real`",
    "study_real_model": "the model of `make real`",
    "study_real_turn": "the model of `make real`",
}
"""Not run here: for what they need, or who runs it anyway."""


def test_every_benchmark_is_run_or_named() -> None:
    files = {path.stem for pattern in ("bench_*.py", "study_*.py") for path in BENCHMARKS.glob(pattern)}
    assert files == SMALLEST.keys() | ELSEWHERE.keys()


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of all of them: base model and v1.0 are built once."""
    return tmp_path_factory.mktemp("benchmarks")


@pytest.mark.nightly
@pytest.mark.timeout(LONGEST_S + 60)
@pytest.mark.parametrize("name", SMALLEST)
def test_it_ends_with_its_result(name: str, data_dir: Path, tmp_path: Path) -> None:
    if name in SCALED:
        pytest.importorskip("ray", reason="`make scaled` installs Ray and clients of Postgres and S3")
    copy = tmp_path / "benchmarks"
    shutil.copytree(BENCHMARKS, copy, ignore=shutil.ignore_patterns("results", "__pycache__"))
    ran = subprocess.run(
        [sys.executable, str(copy / f"{name}.py"), *SMALLEST[name].split()],
        cwd=PROJECT_DIR,
        env={**os.environ, "DPO_DATA_DIR": str(data_dir)},
        capture_output=True,
        text=True,
        timeout=LONGEST_S,
    )
    assert ran.returncode == 0, ran.stdout[-2000:] + ran.stderr[-4000:]
    if "There is no GPU here" in ran.stdout:
        return  # such figures are not kept
    [written] = (copy / "results").glob("*.json")
    assert json.loads(written.read_text())["measured"]
