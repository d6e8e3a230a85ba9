"""Dagster and MLflow keep their records in the same Postgres, and run by another launcher where one is set."""

import json
import os
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest
import sqlalchemy as sa
import yaml

from dpo_pipeline import programs
from dpo_pipeline.dagster_instance import HEAD, place_instance_config
from dpo_pipeline.errors import SettingsError
from dpo_pipeline.program_environment import environment
from dpo_pipeline.settings import PROJECT_DIR, Settings
from dpo_pipeline.stores.database import engine_of
from dpo_pipeline_tests.examples import settings_in

pytest.importorskip("dagster_postgres", reason="make test-scaled installs it")
RUN_ONE = """
import dagster as dg
from dpo_pipeline.automation.jobs import ingest_and_validate
from dpo_pipeline.definitions import defs
with dg.DagsterInstance.get() as instance:
    result = defs.resolve_job_def(ingest_and_validate.name).execute_in_process(instance=instance)
    print(type(instance.run_storage).__name__, result.success, instance.get_runs_count())
"""


@pytest.fixture
def shared(database: str, tmp_path: Path) -> Settings:
    return settings_in(tmp_path, database_url=database)


def instance_of(settings: Settings) -> dg.DagsterInstance:
    return dg.DagsterInstance.from_config(str(settings.dagster_home))


@pytest.mark.slow
def test_a_run_stands_in_postgres_beside_the_ledger(shared: Settings) -> None:
    programs.prepare(shared)
    variables = environment(shared) | {"DPO_DATABASE_URL": str(shared.database_url)}
    done = subprocess.run(
        [sys.executable, "-c", RUN_ONE], env=variables, capture_output=True, text=True, check=False, cwd=PROJECT_DIR
    )
    assert done.stdout.split()[-3:] == ["PostgresRunStorage", "True", "1"], done.stderr
    assert not list(shared.dagster_home.rglob("*.db")), "no SQLite beside it"
    with engine_of(str(shared.database_url)).connect() as connection:
        assert connection.scalar(sa.text("select count(*) from dagster.runs")) == 1
        assert connection.scalar(sa.text("select count(*) from versions")) == 0
    programs.prepare(shared)  # a second start finds all of it


@pytest.mark.slow
def test_mlflow_keeps_its_registry_in_its_own_schema(shared: Settings) -> None:
    programs.prepare(shared)
    store = environment(shared)["MLFLOW_BACKEND_STORE_URI"]
    register = (
        "import mlflow, sys; from mlflow import MlflowClient\n"
        "client = MlflowClient(sys.argv[1]); client.create_registered_model('chat'); "
        "print(len(client.search_registered_models()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", register, store], env=dict(os.environ), capture_output=True, text=True, check=False
    )
    assert done.stdout.split() == ["1"], done.stderr
    with engine_of(str(shared.database_url)).connect() as connection:
        assert connection.scalar(sa.text("select count(*) from mlflow.registered_models")) == 1


def test_kubernetes_is_told_in_its_launchers_own_words_and_dagster_accepts_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No cluster is here: what is rendered is what Dagster itself validates."""
    config = {
        "job_namespace": "dpo",
        "service_account_name": "dpo",
        "job_image": "dpo:1",
        "load_incluster_config": True,
    }
    monkeypatch.setenv("DPO_DAGSTER__LAUNCHER", "k8s")
    monkeypatch.setenv("DPO_DAGSTER__LAUNCHER_CONFIG", json.dumps(config | {"instance_config_map": "dagster"}))
    settings = settings_in(tmp_path)
    settings.dagster_home.mkdir(parents=True)
    place_instance_config(settings)
    written = (settings.dagster_home / "dagster.yaml").read_text()
    assert written.startswith(HEAD)
    assert yaml.safe_load(written)["run_launcher"]["config"]["job_namespace"] == "dpo"
    ref = dg.DagsterInstance.from_config(str(settings.dagster_home)).get_ref()
    assert ref.run_launcher_data is not None and ref.run_launcher_data.class_name == "K8sRunLauncher"
    assert "job_image: dpo:1" in ref.run_launcher_data.config_yaml


def test_ray_likewise(tmp_path: Path) -> None:
    told = {"launcher": "ray", "launcher_config": {"ray": {"address": "http://127.0.0.1:8265", "num_cpus": 1}}}
    settings = settings_in(tmp_path, dagster=told)
    settings.dagster_home.mkdir(parents=True)
    place_instance_config(settings)
    ref = instance_of(settings).get_ref()
    assert ref.run_launcher_data is not None and ref.run_launcher_data.class_name == "RayRunLauncher"


def test_back_to_the_default_it_is_the_repositorys_file_again_and_a_persons_own_stays(tmp_path: Path) -> None:
    here, there = settings_in(tmp_path), settings_in(tmp_path, database_url="postgresql+psycopg://u:secret@h/d")
    here.dagster_home.mkdir(parents=True)
    place = here.dagster_home / "dagster.yaml"
    for settings, is_link in ((here, True), (there, False), (there, False), (here, True)):
        place_instance_config(settings)
        assert place.is_symlink() == is_link
        assert "secret" not in place.read_text()
    place.unlink()
    place.write_text("telemetry:\n  enabled: false\n")
    place_instance_config(there)
    assert place.read_text() == "telemetry:\n  enabled: false\n"


def test_a_launcher_that_takes_nothing_is_told_nothing(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="DPO_DAGSTER__LAUNCHER to one of ray, k8s"):
        place_instance_config(settings_in(tmp_path, dagster={"launcher_config": {"a": 1}}))
