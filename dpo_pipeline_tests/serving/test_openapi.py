"""The description of the API is complete, and nothing it allows or forbids brings the server down."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dpo_pipeline.settings import Settings
from dpo_pipeline_tests.programs_under_test import Server, serving
from dpo_pipeline_tests.serving.conftest import VARIABLES

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server(own_project: Settings) -> Iterator[Server]:
    limits = {"DPO_LIMITS__ANSWERS_PER_MINUTE": "100000", "DPO_LIMITS__VOTES_PER_MINUTE": "100000"}
    with serving(own_project.data_dir, **VARIABLES | limits) as running:
        yield running


def test_every_route_is_described(server: Server) -> None:
    described = server.client.get("/openapi.json").json()
    for path, methods in described["paths"].items():
        for method, route in methods.items():
            assert " " in route["summary"], f"{method} {path}: no name of a function"
            assert route.get("description"), f"{method} {path} says nothing"
            assert any(status.startswith("2") for status in route["responses"]), f"{method} {path}"
            if path.startswith("/v1/"):
                assert route["security"] == [{"HTTPBearer": []}] and "401" in route["responses"], f"{method} {path}"
                assert method == "get" or "403" in route["responses"], f"{method} {path}"
    assert {"/v1/chat/completions", "/v1/models", "/v1/comparisons", "/v1/feedback", "/metrics"} <= set(
        described["paths"]
    )


@pytest.mark.nightly
def test_schemathesis_finds_no_server_error(server: Server, tmp_path: Path) -> None:
    command = [str(Path(sys.executable).with_name("schemathesis")), "run", f"{server.url}/openapi.json"]
    command += ["--checks", "not_a_server_error,status_code_conformance,content_type_conformance"]
    command += [
        "--max-examples",
        "20",
        "--seed",
        "7",
        "--generation-database",
        "none",
        "--request-timeout",
        "60",
    ]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=400, check=False)
    assert done.returncode == 0, done.stdout[-6000:]


def test_without_pages_there_is_the_api_alone(server: Server) -> None:
    page = server.client.get("/")
    assert (page.status_code, page.json()["error"]["code"]) == (404, "not_found")
    assert server.client.get("/docs").status_code == 200
