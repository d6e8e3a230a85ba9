"""An outage of MLflow is told apart from a refusal, and each says what to do."""

import json
import threading
import traceback
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from dpo_pipeline.core.registry_plan import RegistrySnapshot
from dpo_pipeline.errors import RegistryError, RegistryRefused, RegistryUnavailable
from dpo_pipeline.stores.mlflow_client import MOST_BYTES
from dpo_pipeline.stores.registry import Registry


@contextmanager
def answering(status: int, body: bytes) -> Iterator[Registry]:
    """A registry on a server that gives this one answer, whatever it is asked."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.headers.get("Authorization"))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            try:
                self.wfile.write(body)
            except ConnectionError:
                self.close_connection = True

        do_POST = do_DELETE = do_GET  # noqa: N815  (the server's names)

        def log_message(self, format: str, *args: object) -> None:
            pass

    asked: list[str | None] = []
    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        registry = Registry(f"http://127.0.0.1:{server.server_port}", "chat")
        registry.asked = asked  # type: ignore[attr-defined]
        yield registry
    finally:
        server.shutdown()
        server.server_close()


def mlflow_error(code: str) -> bytes:
    return json.dumps({"error_code": code, "message": "it says no"}).encode()


@pytest.mark.parametrize(
    ("status", "body", "kind", "cure"),
    [
        (401, b"", RegistryRefused, "MLFLOW_TRACKING_TOKEN"),
        (403, mlflow_error("PERMISSION_DENIED"), RegistryRefused, "of an account that may write"),
        (400, mlflow_error("INVALID_PARAMETER_VALUE"), RegistryRefused, "Asking again does not help"),
        (404, b"<html>nginx</html>", RegistryUnavailable, "DPO_MLFLOW_URL"),
        (429, mlflow_error("REQUEST_LIMIT_EXCEEDED"), RegistryUnavailable, "DPO_MLFLOW_URL"),
        (500, mlflow_error("INTERNAL_ERROR"), RegistryUnavailable, "DPO_MLFLOW_URL"),
        (503, b"", RegistryUnavailable, "DPO_MLFLOW_URL"),
        (200, b"[]", RegistryUnavailable, "DPO_MLFLOW_URL"),
        (200, b"<html>a page</html>", RegistryUnavailable, "DPO_MLFLOW_URL"),
        (200, b'{"registered_model": null}', RegistryUnavailable, "DPO_MLFLOW_URL"),
        (200, b" " * (MOST_BYTES + 1), RegistryUnavailable, "more than 32 MiB"),
    ],
)
def test_what_mlflow_says(status: int, body: bytes, kind: type[RegistryError], cure: str) -> None:
    with answering(status, body) as registry, pytest.raises(RegistryError, match=cure) as failed:
        registry.look()
    assert type(failed.value) is kind


def test_no_model_yet_is_an_empty_registry() -> None:
    with answering(404, mlflow_error("RESOURCE_DOES_NOT_EXIST")) as registry:
        assert registry.look() == RegistrySnapshot()


@pytest.mark.parametrize(
    ("variables", "sent"),
    [
        ({"MLFLOW_TRACKING_USERNAME": "ann", "MLFLOW_TRACKING_PASSWORD": "secret"}, "Basic YW5uOnNlY3JldA=="),
        ({"MLFLOW_TRACKING_TOKEN": "abc"}, "Bearer abc"),
        ({}, None),
    ],
)
def test_the_account_of_mlflows_own_client_is_used(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], sent: str | None
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with answering(404, mlflow_error("RESOURCE_DOES_NOT_EXIST")) as registry:
        registry.look()
        assert registry.asked == [sent]  # type: ignore[attr-defined]


@pytest.mark.parametrize("status", [400, 401, 429, 500])
def test_our_own_account_stands_in_no_error(monkeypatch: pytest.MonkeyPatch, status: int) -> None:
    """Not in what is said, nor in the traceback that a run logs; of what MLflow says, the beginning."""
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "hunter2-is-a-token")
    body = json.dumps({"error_code": "NO", "message": "Bearer hunter2-is-a-token is wrong, " + "really " * 9_999})
    with answering(status, body.encode()) as registry:
        for ask in (registry.look, lambda: registry.run_pages("run")):
            with pytest.raises(RegistryError) as failed:
                ask()
            told = "".join(traceback.format_exception(failed.value))
            assert "hunter2" not in told and len(str(failed.value)) < 700


def test_the_password_of_its_address_stands_in_no_error() -> None:
    registry = Registry(f"http://ann:{'2retnuh'[::-1]}@127.0.0.1:9", "chat")
    with pytest.raises(RegistryError) as failed:
        registry.look()
    assert "hunter2" not in "".join(traceback.format_exception(failed.value))


def test_what_it_answers_to_an_order_is_not_read() -> None:
    with answering(200, b" " * (3 * MOST_BYTES)) as registry:
        tracemalloc.start()
        registry.point("champion", "1")
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert most < MOST_BYTES
