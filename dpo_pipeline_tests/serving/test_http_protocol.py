"""Connections that send no request, or one without an end, are closed; ordinary ones do not notice. A real uvicorn."""

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
import uvicorn

from dpo_pipeline.serving import http_protocol
from dpo_pipeline.serving.http_protocol import BoundedHttp
from dpo_pipeline_tests.programs_under_test import free_port


async def echo(scope, receive, send) -> None:  # type: ignore[no-untyped-def]
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


@contextmanager
def served(app: Any) -> Iterator[tuple[int, uvicorn.Server, threading.Thread]]:
    """(port, server, its thread); the server ends with the block."""
    port = free_port()
    config = uvicorn.Config(app, host="127.0.0.1", port=port, http=BoundedHttp, lifespan="off", log_level="error")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.02)
    try:
        yield port, server, thread
    finally:
        server.should_exit = True
        thread.join(timeout=10)


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(http_protocol, "HEAD_S", 1.0)
        patch.setattr(http_protocol, "STALLED_S", 1.0)
        patch.setattr(http_protocol, "IDLE_S", 1.0)
        with served(echo) as (port, _, _):
            yield port


def closed_after(connection: socket.socket) -> float:
    begun = time.monotonic()
    connection.settimeout(10)
    while connection.recv(65_536):
        pass
    return time.monotonic() - begun


@pytest.mark.slow
@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\nHost: x\r\n"])
def test_a_connection_without_a_whole_head_is_closed(port: int, sent: bytes) -> None:
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(sent)
        assert 0.5 < closed_after(connection) < 5


@pytest.mark.slow
def test_a_connection_that_asks_nothing_more_is_closed(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n")
        assert 0.5 < closed_after(connection) < 4


def test_headers_without_an_end_are_refused(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nX-Long: ")
        connection.settimeout(5)
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            for _ in range(2000):  # 20 MB, if nobody stopped it
                connection.sendall(b"a" * 10_000)


@pytest.mark.slow
def test_large_bodies_slow_answers_and_many_requests_pass(port: int) -> None:
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=20) as client:
        for _ in range(3):
            assert client.post("/", content=b"x" * 900_000).content == b"x" * 900_000
        time.sleep(1.5)
        assert client.post("/", content=b"y", headers={"X-Some": "a" * 8000}).content == b"y"


@pytest.mark.slow
def test_a_body_that_stalls_ends_and_a_slow_one_does_not(port: int) -> None:
    head = b"POST / HTTP/1.1\r\nHost: here\r\nContent-Length: 4\r\n\r\n"
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(head + b"a")
        assert 0.5 < closed_after(connection) < 5
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(head)
        for piece in (b"a", b"b", b"c", b"d"):
            time.sleep(0.6)
            connection.sendall(piece)
        connection.settimeout(10)
        assert connection.recv(65_536).startswith(b"HTTP/1.1 200")


def test_a_server_says_that_it_may_open_too_few_connections() -> None:
    code = (
        "import resource; from dpo_pipeline.serving.http_protocol import allow_connections; "
        "resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard})); print(allow_connections())"
    )

    def tried(soft: int, hard: int) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", code.format(soft=soft, hard=hard)]
        return subprocess.run(command, capture_output=True, text=True)

    assert tried(64, 1024).stdout == "1024\n"
    assert "may open 64 files and connections; 512 are required" in tried(64, 64).stderr


async def heartbeat(scope, receive, send) -> None:  # type: ignore[no-untyped-def]
    """A stream that ends when whoever reads it goes, as Gradio's."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"alive", "more_body": True})
    while (await receive())["type"] != "http.disconnect":
        pass


def test_an_open_page_does_not_hold_a_server_that_shall_stop() -> None:
    with (
        served(heartbeat) as (port, server, thread),
        httpx.stream("GET", f"http://127.0.0.1:{port}/gradio_api/heartbeat/a-page") as opened,
    ):
        assert next(opened.iter_raw()) == b"alive"
        server.should_exit = True
        thread.join(timeout=20)
        assert not thread.is_alive()
