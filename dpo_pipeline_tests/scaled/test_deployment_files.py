"""What people deploy is what is tested: the same programs, in files that their own tools accept."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from shutil import which
from typing import Any

import httpx
import pytest
import yaml
from honcho.environ import parse_procfile

from dpo_pipeline.settings import PROJECT_DIR
from dpo_pipeline_tests.programs_under_test import free_port, wait_until_answering

pytest.importorskip("kubernetes_validate", reason="make test-scaled installs it")
DEPLOY = PROJECT_DIR / "deploy"
Compose = Callable[..., dict[str, Any]]
PINNED = re.compile(r"[^@:]+:[^@:]+@sha256:[0-9a-f]{64}")
PROGRAMS = set(parse_procfile((PROJECT_DIR / "Procfile").read_text()).processes)


COMPOSE = {"podman-compose": [str(Path(sys.executable).with_name("podman-compose"))], "docker": ["docker", "compose"]}


@pytest.fixture(scope="module", params=COMPOSE)
def compose(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Compose:
    """Reads the file as one of the programs does that people start it with, and fills in what was named elsewhere."""
    command = COMPOSE[request.param]
    if request.param == "docker" and (
        not which("docker") or subprocess.run([*command, "version"], capture_output=True, check=False).returncode
    ):
        pytest.skip("Docker's compose is not installed; it needs no daemon to read a file")
    # podman-compose asks for podman's version before it reads anything, and for nothing else.
    folder = tmp_path_factory.mktemp("bin")
    (folder / "podman").write_text("#!/bin/sh\necho podman version 5.0.0\n")
    (folder / "podman").chmod(0o755)

    def read(**variables: str) -> dict[str, Any]:
        told = {**os.environ, "POSTGRES_PASSWORD": "secret", "S3_PASSWORD": "hidden", **variables}
        told["PATH"] = f"{folder}{os.pathsep}{told['PATH']}"
        reading = [*command, "-f", str(DEPLOY / "compose.yaml"), "--profile", "gpu", "config"]
        done = subprocess.run(reading, env=told, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = yaml.safe_load(done.stdout)["services"]
        return found

    return read


@pytest.fixture(scope="module")
def services(compose: Compose) -> dict[str, Any]:
    return compose()


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
        asked = "healthcheck" in each
        assert asked == (each["command"][0] in {"serving", "mlflow", "dagster"}), "who answers by HTTP is asked"
        for port in each.get("ports", []):
            where = port if isinstance(port, str) else port["host_ip"] + ":"
            assert where.startswith("127.0.0.1:"), f"{name} is open to the network"
    assert {"postgres", "s3", "caddy", "vllm"} <= set(services)


def test_images_are_pinned_by_what_their_registries_say(compose: Compose, tmp_path: Path) -> None:
    """By what was published under that tag; and, asked again, by what it is today. A program answers in Docker's place:
    no registry is here.
    """
    named = [each["image"] for each in compose().values() if each["image"] != "dpo"]
    named.append((DEPLOY / "Dockerfile").read_text().partition("ARG PYTHON_IMAGE=")[2].partition("\n")[0])
    assert len(named) == 5 and all(PINNED.fullmatch(image) for image in named)
    digest = "sha256:" + 32 * "0f"
    asked = f'test "$*" = "buildx imagetools inspect --format {{{{.Manifest.Digest}}}} $6" && echo {digest}'
    (tmp_path / "docker").write_text(f"#!/bin/sh\n{asked}\n")
    (tmp_path / "docker").chmod(0o755)
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    command = ["sh", "tools/image_digests.sh"]
    told = subprocess.run(command, cwd=PROJECT_DIR, env={"PATH": path}, capture_output=True, text=True, check=True)
    pinned = dict(line.split("=", 1) for line in told.stdout.splitlines())
    assert pinned["PYTHON_IMAGE"] == f"python:3.11-slim-bookworm@{digest}"
    for name, each in compose(**pinned).items():
        if each["image"] == "dpo":
            args = each["build"]["args"]
            assert "PYTHON_IMAGE" in args if isinstance(args, list) else args["PYTHON_IMAGE"] == pinned["PYTHON_IMAGE"]
        else:
            assert each["image"].endswith(f"@{digest}"), name
    (tmp_path / "docker").write_text("#!/bin/sh\nexit 1\n")
    refused = subprocess.run(command, cwd=PROJECT_DIR, env={"PATH": path}, capture_output=True, text=True, check=False)
    assert refused.returncode and not refused.stdout


def test_the_dockerfile_is_as_its_linter_wants_it() -> None:
    linter = Path(sys.executable).with_name("hadolint")
    command = [str(linter), "--no-color", str(DEPLOY / "Dockerfile")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    stage = (DEPLOY / "Dockerfile").read_text().rpartition("\nFROM ")[2]
    assert "\nUSER 10001\n" in stage and "--chown=root:root" in stage, "what runs can change none of its own code"


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
