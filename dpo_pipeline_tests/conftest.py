"""What every test may rely on: no `DPO_` variable of the shell gets in, torch takes one thread per worker, and
Hypothesis draws the same examples in every run."""

import gc
import os

import hypothesis
import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["TRANSFORMERS_VERBOSITY"] = "error"
os.environ["HF_DATASETS_DISABLE_PROGRESS_BARS"] = "1"
os.environ["TQDM_DISABLE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["DAGSTER_DISABLE_TELEMETRY"] = "1"
os.environ["DO_NOT_TRACK"] = "1"
# Tests start hundreds of processes: each would compile the whole package again.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
for name in [name for name in os.environ if name.startswith("DPO_")]:
    del os.environ[name]

LONGEST = "test_dagster_pages.py"
"""One daemon after another, each with its own waits; `-n` gives a file to one worker as a whole."""

# A change is judged by what it changes: new draws, or a slow machine, must not turn it red.
hypothesis.settings.register_profile("repeatable", derandomize=True, deadline=None)
hypothesis.settings.load_profile("repeatable")


def pytest_sessionfinish() -> None:
    # What `quick_imports` keeps from the collector outlives Python, and DuckDB's binding prints a list of it then.
    gc.unfreeze()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that take long come first, so that no worker is left alone with one of them at the end."""
    items.sort(key=lambda item: (item.get_closest_marker("slow") is None, LONGEST not in item.nodeid))


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("DPO_")]:
        monkeypatch.delenv(name)
