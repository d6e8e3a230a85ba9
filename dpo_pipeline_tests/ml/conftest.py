"""The base model that is shipped, and v1.0 on it, trained for a moment: laid out once a test run for all workers."""

import os
from pathlib import Path

import pytest
from filelock import FileLock

from dpo_pipeline.settings import Settings
from dpo_pipeline_tests.examples import settings_in


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Settings on a data directory in which the base model lies."""
    from dpo_pipeline.ml.base_model import ensure_base

    base = tmp_path_factory.getbasetemp()
    shared = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "tiny-project"
    shared.mkdir(exist_ok=True)
    settings = settings_in(shared, model={"max_length": 160, "max_new_tokens": 24}, sft={"epochs": 0.2})
    with FileLock(shared / "lock"):
        ensure_base(settings, lambda step, total, metrics: None)
    return settings


@pytest.fixture(scope="session")
def baseline(project: Settings) -> Path:
    """The folder of v1.0's adapter."""
    from dpo_pipeline.ml.base_model import locate_base
    from dpo_pipeline.ml.train_process import run
    from dpo_pipeline.ml.training_plan import sft_job

    return Path(run(sft_job(project, locate_base(project))).adapter_dir)
