"""A project with a base model and v1.0, a Dagster instance and a real MLflow server, for jobs that really run."""

import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from dpo_pipeline.core.versions import BASELINE
from dpo_pipeline.loop.register import register_version
from dpo_pipeline.loop.train import train_baseline
from dpo_pipeline.ml.base_model import locate_base
from dpo_pipeline.ml.training_plan import sft_job
from dpo_pipeline.settings import Settings, load_settings
from dpo_pipeline.stores.ledger import Ledger
from dpo_pipeline.stores.registry import Registry
from dpo_pipeline_tests.ml.conftest import baseline, project  # noqa: F401  (fixtures)
from dpo_pipeline_tests.programs_under_test import mlflow_server, ports_of_their_own

DYING = """
import importlib, os, signal, sys
import dagster as dg
from dpo_pipeline.definitions import defs

job, version, module, owner, method, home = sys.argv[1:]
owner = getattr(importlib.import_module(module), owner)
call = getattr(owner, method)

def dying(*args, **kwargs):
    call(*args, **kwargs)
    os.kill(os.getpid(), signal.SIGKILL)

setattr(owner, method, dying)
with dg.DagsterInstance.local_temp(home) as instance:
    instance.add_dynamic_partitions("versions", [version])
    defs.resolve_job_def(job).execute_in_process(instance=instance, partition_key=version)
"""


@pytest.fixture(scope="session")
def mlflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with mlflow_server(tmp_path_factory.mktemp("mlflow")) as url:
        yield url


REGISTERING = ("model_version", "rollout_decision")
"""Assets that take a version from `improved` into its rollout."""


@dataclass
class Loop:
    """Settings, and jobs of the real definitions on an instance of its own."""

    settings: Settings
    instance: dg.DagsterInstance

    def run(self, job: str, version: str | None = None, **config: Any) -> dg.ExecuteInProcessResult:
        from dpo_pipeline.definitions import defs

        if version:
            self.instance.add_dynamic_partitions("versions", [version])
        return defs.resolve_job_def(job).execute_in_process(
            instance=self.instance,
            partition_key=version,
            raise_on_error=False,
            run_config={"ops": {"trained_adapter": {"config": config}}} if config else None,
        )

    def build_baseline(self) -> None:
        """What the job of this name does where base model and training are there already, without its processes."""
        settings = self.settings
        registry = Registry(settings.mlflow_address, settings.registered_model)
        with Ledger(settings.ledger_address) as ledger:
            train_baseline(settings, ledger, registry)
            register_version(settings, ledger, registry, BASELINE)

    def run_killed(self, job: str, version: str, module: str, owner: str, method: str) -> None:
        """Run a job in a process that is killed with -9 right after its first call of a method."""
        home = self.settings.data_dir / f"killed-after-{method}"
        home.mkdir()
        command = [sys.executable, "-c", DYING, job, version, module, owner, method, str(home)]
        done = subprocess.run(command, capture_output=True, check=False, timeout=120)
        assert done.returncode == -signal.SIGKILL, done.stderr.decode()

    def run_assets(self, version: str | None, *names: str) -> bool:
        """Materialize these assets by themselves, as by hand in the UI; null: they are of no version."""
        from dpo_pipeline.definitions import defs

        if version:
            self.instance.add_dynamic_partitions("versions", [version])
        assets = [defs.get_assets_def(name) for name in names]
        return dg.materialize(
            assets, instance=self.instance, partition_key=version, resources=defs.resources, raise_on_error=False
        ).success

    def tick(self, sensor: str) -> list[dg.RunRequest]:
        """What the sensor asks for now, of partitions that are there or asked for with it; empty where it skips."""
        from dpo_pipeline.definitions import defs

        repository = defs.get_repository_def()
        definition = repository.get_sensor_def(sensor)
        needed = {name: (defs.resources or {})[name] for name in definition.required_resource_keys}
        with dg.build_sensor_context(instance=self.instance, repository_def=repository, resources=needed) as context:
            result = definition(context)
        if not isinstance(result, dg.SensorResult):
            return [result] if isinstance(result, dg.RunRequest) else []
        for wanted in result.dynamic_partitions_requests or ():
            self.instance.add_dynamic_partitions("versions", wanted.partition_keys)
        known = {None, *self.instance.get_dynamic_partitions("versions")}
        assert known >= {request.partition_key for request in result.run_requests or ()}
        return list(result.run_requests or ())


def copy_trained(project: Settings, baseline: Path, data_dir: Path) -> None:  # noqa: F811
    """Base model and finished training of v1.0, as `build_baseline` would have left them: it trains nothing again.

    That it does train is seen in `test_dagster_pages`.
    """
    work = Path(sft_job(project, locate_base(project)).work_dir)
    for part in (project.artifacts_dir / "base", baseline, work):
        shutil.copytree(part, data_dir / part.relative_to(project.data_dir))
    result = data_dir / work.relative_to(project.data_dir) / "result.json"
    result.write_text(result.read_text().replace(str(project.data_dir), str(data_dir)))


@contextmanager
def looping(data_dir: Path, mlflow: str, model: str) -> Iterator[Loop]:
    """The loop on a data folder, under a name of its own in MLflow's registry."""
    variables = {
        "DPO_DATA_DIR": str(data_dir),
        "DPO_MLFLOW_URL": mlflow,
        "DPO_ACCESS__MLFLOW_ORDERS": "any",
        "DPO_REGISTERED_MODEL": model,
        "DPO_MODEL__MAX_NEW_TOKENS": "24",
        "DPO_MODEL__MAX_LENGTH": "160",
        "DPO_SFT__EPOCHS": "0.2",
        "DPO_EVALUATION__QUESTIONS": "10",
        "DPO_EVALUATION__SAMPLES": "1",
        **ports_of_their_own(),
    }
    home = data_dir / "dagster-instance"
    home.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        with dg.DagsterInstance.local_temp(str(home)) as instance:
            yield Loop(load_settings(), instance)


@pytest.fixture
def loop(project: Settings, baseline: Path, mlflow: str, tmp_path: Path) -> Iterator[Loop]:  # noqa: F811
    copy_trained(project, baseline, tmp_path)
    with looping(tmp_path, mlflow, f"chat-{tmp_path.name}") as made:
        yield made
