"""What a page of another site may not do to the programs of the loop: asked as a browser asks, of the real programs."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from dpo_pipeline.gate import Caller, check_caller
from dpo_pipeline.request_errors import ForeignOrigin
from dpo_pipeline.settings import Access
from dpo_pipeline_tests.browser import chromium, tab
from dpo_pipeline_tests.programs_under_test import free_port, mlflow_server, wait_until_answering

HOST = "127.0.0.1:8000"
PICTURE = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"}
LINK = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
MUTATION = 'mutation{logTelemetry(action:"a",clientTime:"1",clientId:"c",metadata:"{}"){__typename}}'
ACCESS = Access(origins=("https://app.example",), hosts=("Serving:8000", "https://Mlflow.lan"))


@pytest.mark.parametrize(
    "caller",
    [
        Caller("POST", HOST),  # a program
        Caller("GET", HOST, site="none", mode="navigate", dest="document"),  # typed into the address bar
        Caller("POST", HOST, f"http://{HOST}", "same-origin", "cors", "empty"),  # our own page
        Caller("WEBSOCKET", HOST, f"http://{HOST}"),
        Caller("GET", HOST, site="cross-site", mode="navigate", dest="document"),  # a link on another page
        Caller("POST", HOST, "https://app.example", "cross-site", "cors", "empty"),
        Caller("GET", "app.example", site="same-origin"),  # behind a proxy
        *(
            Caller("GET", host)
            for host in ("localhost:8000", "[::1]:8000", "serving:8000", "SERVING", "", "10.0.0.7", "mlflow.lan:5000")
        ),
        *(Caller("GET", host) for host in ("localhost.", "chat.localhost:8000", "box.lan:3000")),
    ],
)
def test_who_is_let_through(caller: Caller) -> None:
    check_caller(caller, ACCESS, "Box.lan")


@pytest.mark.parametrize(
    "caller",
    [
        Caller("POST", HOST, "https://evil.example"),
        Caller("GET", HOST, "https://evil.example", "cross-site", "cors", "empty"),
        Caller("POST", HOST, "null"),
        Caller("POST", HOST, "http://127.0.0.1:9000", "same-site", "cors", "empty"),  # another port of this machine
        Caller("GET", HOST, site="cross-site", mode="no-cors", dest="image"),
        Caller("GET", HOST, site="same-site", mode="no-cors", dest="script"),
        Caller("GET", HOST, site="cross-site", mode="navigate", dest="iframe"),
        Caller("POST", HOST, site="cross-site", mode="navigate", dest="document"),  # a form
        Caller("WEBSOCKET", HOST, "https://evil.example"),
        Caller("POST", HOST, "http://["),
        Caller("POST", HOST, "127.0.0.1:8000"),
        *(
            Caller("GET", host)
            for host in ("evil.example", "evil.example:8000", "localhost.evil.example", "[::1", "a b")
        ),
    ],
)
def test_who_is_not(caller: Caller) -> None:
    with pytest.raises(ForeignOrigin):
        check_caller(caller, ACCESS, "Box.lan")


@pytest.fixture(scope="module")
def dagster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The webserver as the Procfile starts it, on an instance of its own with nothing defined."""
    home, port = tmp_path_factory.mktemp("dagster"), free_port()
    (home / "nothing.py").write_text("import dagster\n\ndefs = dagster.Definitions()\n")
    (home / "dagster.yaml").write_text("telemetry:\n  enabled: false\n")
    command = [sys.executable, "-m", "dpo_pipeline.gated_dagster", "-f", str(home / "nothing.py")]
    command += ["--host", "127.0.0.1", "--port", str(port), "--log-level", "warning"]
    with (home / "webserver.log").open("wb") as out:
        process = subprocess.Popen(command, env={**os.environ, "DAGSTER_HOME": str(home)}, stdout=out, stderr=out)
    try:
        wait_until_answering(f"http://127.0.0.1:{port}/server_info", [process], home / "webserver.log")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(timeout=30)


@pytest.fixture(scope="module")
def mlflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with mlflow_server(tmp_path_factory.mktemp("mlflow"), "--app-name", "dpo") as url:
        yield url


@pytest.mark.slow
def test_no_page_drives_dagster(dagster: str) -> None:
    query = {"query": MUTATION}
    assert httpx.get(f"{dagster}/graphql", params=query, headers=PICTURE).status_code == 403
    assert httpx.get(f"{dagster}/graphql", params=query, headers=LINK).status_code == 403, "nor does a link"
    assert httpx.get(f"{dagster}/graphql", params=query).status_code == 403
    foreign = {"Origin": "https://evil.example", "Content-Type": "text/plain"}
    assert httpx.post(f"{dagster}/graphql", content=f'{{"query": "{MUTATION}"}}', headers=foreign).status_code == 403
    assert httpx.get(dagster, headers={"Host": "evil.example"}).status_code == 403
    page = httpx.get(dagster, headers=LINK)
    assert page.status_code == 200 and "<!DOCTYPE html>" in page.text
    assert page.headers["x-frame-options"] == "SAMEORIGIN" and page.headers["x-content-type-options"] == "nosniff"
    assert "frame-ancestors 'self'" in page.headers["content-security-policy"]
    own = httpx.post(f"{dagster}/graphql", json={"query": "{version}"}, headers={"Origin": dagster})
    assert own.json()["data"]["version"]


@pytest.mark.slow
def test_no_page_opens_dagsters_websocket(dagster: str) -> None:
    async def opened(origin: str) -> bool:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(dagster.rsplit(":", 1)[1]))
        head = f"GET /graphql HTTP/1.1\r\nHost: {dagster.removeprefix('http://')}\r\nOrigin: {origin}\r\n"
        head += "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Protocol: graphql-ws\r\n"
        writer.write(f"{head}Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode())
        status = await reader.readline()
        writer.close()
        await writer.wait_closed()
        return b" 101 " in status

    assert asyncio.run(opened(dagster)) and not asyncio.run(opened("https://evil.example"))


@pytest.mark.slow
def test_no_page_moves_an_alias_in_mlflow(mlflow: str) -> None:
    api = f"{mlflow}/api/2.0/mlflow/registered-models"
    assert httpx.post(f"{api}/create", json={"name": "chat"}).status_code == 200, "a program"
    ports = [f"http://{name}:{free_port()}" for name in ("127.0.0.1", "localhost")]
    for origin in ("https://evil.example", "null", *ports):
        body = {"name": "chat", "tags": [{"key": "a", "value": "b"}]}
        refused = httpx.post(f"{api}/set-tag", json=body, headers={"Origin": origin, "Content-Type": "text/plain"})
        assert refused.status_code == 403, origin
    assert httpx.get(f"{api}/get", params={"name": "chat"}, headers={"Host": "evil.example"}).status_code == 403
    assert httpx.get(f"{api}/get", params={"name": "chat"}, headers=PICTURE).status_code == 403
    own = httpx.patch(f"{api}/update", json={"name": "chat", "description": "x"}, headers={"Origin": mlflow})
    assert own.status_code == 200
    page = httpx.get(mlflow, headers=LINK)
    assert page.status_code == 200 and page.headers["x-frame-options"] == "SAMEORIGIN"


@pytest.mark.slow
def test_an_experiment_opens_on_its_runs_until_somebody_turns_mlflows_switch(mlflow: str) -> None:
    found = httpx.get(mlflow, headers={"If-None-Match": httpx.get(mlflow).headers["etag"]})
    assert found.status_code == 200 and int(found.headers["content-length"]) == len(found.content)
    with chromium() as browser, tab(browser, mlflow, "body") as opened:
        page = opened.page
        for turn, shown in ((None, "**/runs?workflowType=machine_learning*"), ("GenAI", "**?workflowType=genai*")):
            opened.go(f"{mlflow}/#/experiments")
            if turn:
                page.get_by_text(turn, exact=True).first.click()
            page.get_by_role("link", name="Default").first.click()
            page.wait_for_url(shown)


def test_the_procfile_starts_nothing_else_for_browsers() -> None:
    procfile = (Path(__file__).parents[1] / "Procfile").read_text()
    assert "dagster-webserver " not in procfile and "mlflow server --app-name dpo " in procfile
