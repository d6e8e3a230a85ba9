"""What people deploy is what is tested: the same programs, in files that their own tools accept."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from honcho.environ import parse_procfile

from dpo_pipeline.settings import PROJECT_DIR
from dpo_pipeline_tests.programs_under_test import free_port, wait_until_answering

pytest.importorskip("kubernetes_validate", reason="make test-scaled installs it")
DEPLOY = PROJECT_DIR / "deploy"
PROGRAMS = set(parse_procfile((PROJECT_DIR / "Procfile").read_text()).processes)


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """As podman-compose reads the file: with what was named elsewhere filled in."""
    # It asks for podman's version before it reads anything, and for nothing else.
    folder = tmp_path_factory.mktemp("bin")
    (folder / "podman").write_text("#!/bin/sh\necho podman version 5.0.0\n")
    (folder / "podman").chmod(0o755)
    command = [
        str(Path(sys.executable).with_name("podman-compose")),
        "-f",
        str(DEPLOY / "compose.yaml"),
        "--profile",
        "gpu",
        "config",
    ]
    told = {**os.environ, "POSTGRES_PASSWORD": "secret", "S3_PASSWORD": "hidden"}
    told["PATH"] = f"{folder}{os.pathsep}{told['PATH']}"
    done = subprocess.run(command, env=told, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = yaml.safe_load(done.stdout)["services"]
    return found


@pytest.fixture(scope="module")
def manifests() -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text()))


def arguments(manifests: list[dict[str, Any]]) -> list[str]:
    deployments = [each for each in manifests if each["kind"] == "Deployment"]
    return [c["args"][0] for each in deployments for c in each["spec"]["template"]["spec"]["containers"]]


def test_compose_starts_every_program_and_two_servers(services: dict[str, Any]) -> None:
    ours = {name: each for name, each in services.items() if each["image"] == "dpo"}
    assert {each["command"][0] for each in ours.values()} == PROGRAMS
    assert [each["command"][0] for each in ours.values()].count("serving") == 2
    for name, each in ours.items():
        assert each["read_only"] and each["cap_drop"] == ["ALL"], name
        assert "secret@postgres" in each["environment"]["DPO_DATABASE_URL"]
        assert all(port.startswith("127.0.0.1:") for port in each.get("ports", [])), f"{name} is open to the network"
    assert {"postgres", "s3", "caddy", "vllm"} <= set(services)


def test_kubernetes_accepts_its_file(manifests: list[dict[str, Any]]) -> None:
    import kubernetes_validate

    for each in manifests:
        kubernetes_validate.validate(each, "1.33", strict=True)
    assert set(arguments(manifests)) == PROGRAMS


def test_kubernetes_runs_nothing_as_root_and_knows_when_a_server_is_ready(manifests: list[dict[str, Any]]) -> None:
    for deployment in (each for each in manifests if each["kind"] == "Deployment"):
        pod = deployment["spec"]["template"]["spec"]
        assert pod["securityContext"]["runAsNonRoot"]
        for container in pod["containers"]:
            assert (
                container["securityContext"]["readOnlyRootFilesystem"] and "memory" in container["resources"]["limits"]
            )
            if container["name"] == "serving":
                assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"


@pytest.mark.slow
def test_a_program_by_itself_is_the_one_of_the_procfile(database: str, tmp_path: Path) -> None:
    """As a container starts it, on a database; stopped like one."""
    port = free_port()
    variables = {"DPO_DATABASE_URL": database, "DPO_DATA_DIR": str(tmp_path), "DPO_PORTS__SERVING": str(port)}
    log = tmp_path / "log"
    with log.open("wb") as out:
        command = [sys.executable, "-m", "dpo_pipeline.cli", "run", "serving"]
        process = subprocess.Popen(command, env={**os.environ, **variables}, stdout=out, stderr=out)
    try:
        wait_until_answering(f"http://127.0.0.1:{port}/healthz", [process], log)
        assert httpx.get(f"http://127.0.0.1:{port}/readyz").status_code == 503
    finally:
        process.terminate()
        assert process.wait(timeout=30) in (0, -15), log.read_text()


def test_a_program_that_is_none_is_told() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "dpo_pipeline.cli", "run", "servnig"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1 and "there are mlflow, code, dagster, daemon, serving" in " ".join(done.stderr.split())
