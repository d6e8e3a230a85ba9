"""What an attacker would try first, against one real server: each is refused, and in words that tell nothing more."""

import base64
import json
import socket
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import httpx
import psutil
import pytest

from dpo_pipeline.settings import Settings
from dpo_pipeline.stores.key_ring import KeyRing
from dpo_pipeline_tests.browser import tab
from dpo_pipeline_tests.programs_under_test import Server, serving
from dpo_pipeline_tests.serving.conftest import WITH_PAGES, beside
from dpo_pipeline_tests.upstream import Upstream, answered_by

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.slow
QUESTION = {"prompt": "Why is the sky blue?"}
READ = ("/v1/comparisons/next", "/v1/rollout", "/v1/models", "/v1/preferences", "/metrics", "/session", "/openapi.json")
PAGES = ("/", "/chat", "/review", "/rollout")
OTHERS = (
    *("/v1/models", "/v1/nothing", "/metrics", "/healthz", "/openapi.json", "/session", "/config", "/nothing-here"),
    *("/docs/assets/swagger-ui.css", "/gradio_api/upload"),
)


@pytest.fixture(scope="module")
def attacked(own_project: Settings, models: Upstream) -> Iterator[tuple[Server, str]]:
    """A server whose team holds keys, and the key of one of them."""
    settings = beside(own_project)
    ring = KeyRing(settings.keys_log)
    ring.add("Olga", "operator")
    key = ring.add("Ada", "rater")
    with serving(settings.data_dir, **WITH_PAGES, **answered_by(models)) as running:
        yield running, key


def raw(server: Server, request: bytes) -> bytes:
    """The whole answer to bytes that no client would send."""
    with socket.create_connection(("127.0.0.1", httpx.URL(server.url).port or 80), timeout=20) as connection:
        connection.sendall(request)
        parts = []
        try:
            while part := connection.recv(65_536):
                parts.append(part)
        except ConnectionResetError:
            pass
    return b"".join(parts)


def shown(server: Server, **headers: str) -> dict[str, Any]:
    answer = server.client.post("/v1/comparisons", json=QUESTION, headers=headers)
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    return found


@pytest.mark.parametrize("path", [*READ, *PAGES])
@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example:8000", "localhost.evil.example"])
def test_a_foreign_name_reads_nothing(attacked: tuple[Server, str], host: str, path: str) -> None:
    refused = attacked[0].client.get(path, headers={"Host": host})
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "foreign_origin")


@pytest.mark.parametrize("path", READ)
@pytest.mark.parametrize(
    "sent",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "script"},
        {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "cors", "Sec-Fetch-Dest": "empty"},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"},
    ],
)
def test_a_page_of_another_site_reads_nothing(attacked: tuple[Server, str], sent: dict[str, str], path: str) -> None:
    refused = attacked[0].client.get(path, headers=sent)
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "foreign_origin")
    assert "access-control-allow-origin" not in refused.headers


@pytest.mark.parametrize("path", ["/v1/comparisons", "/v1/feedback", "/v1/rollout/abort", "/sign-in", "/sign-out"])
def test_a_form_of_another_site_changes_nothing(attacked: tuple[Server, str], path: str) -> None:
    form = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    sent = {"Content-Type": "text/plain", **form}
    assert attacked[0].client.post(path, content=json.dumps(QUESTION), headers=sent).status_code == 403
    assert attacked[0].client.post(path, content=b"", headers={"Origin": "https://evil.example"}).status_code == 403


@pytest.mark.parametrize("path", ["/v1/comparisons/x/vote", "/v1/rollout/promote", "/v1/feedback", "/sign-out"])
def test_a_link_gives_no_order(attacked: tuple[Server, str], path: str) -> None:
    """Nothing is changed by a GET, nor by a POST in disguise."""
    answer = attacked[0].client.get(path)
    assert answer.status_code in (404, 405), answer.text
    for header in ("X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override"):
        assert attacked[0].client.get(f"{path}?_method=POST", headers={header: "POST"}).status_code in (404, 405)


@pytest.mark.parametrize("method", ["TRACE", "CONNECT", "PUT", "PATCH", "DELETE", "PROPFIND"])
def test_methods_that_nobody_needs(attacked: tuple[Server, str], method: str) -> None:
    answer = attacked[0].client.request(method, "/v1/rollout", headers={"Cookie": "secret=1"})
    assert answer.status_code in (400, 405) and "secret=1" not in answer.text


@pytest.mark.parametrize(
    "path",
    [
        *("/../../etc/passwd", "/docs/assets/../../../../etc/passwd", "/docs/assets/%2e%2e/%2e%2e/setup.py"),
        *("/docs/assets/..%2f..%2f..%2fetc/passwd", "/reports/..%2f..%2fkeys.jsonl", "/reports/%2fetc%2fpasswd"),
        *("/versions/..%2f..%2fserving.key", "/%00", "/docs/assets/a%00b", "/gradio_api/file=/etc/passwd"),
        *("/gradio_api/file%3d/etc/passwd", "//gradio_api/upload", "/v1/../gradio_api/upload"),
        *("/gradio_api/proxy=http://127.0.0.1/", "/static/..%2f..%2f..%2fetc/passwd", "/assets/..%5c..%5csetup.py"),
    ],
)
def test_paths_lead_nowhere(attacked: tuple[Server, str], path: str) -> None:
    host = attacked[0].url.removeprefix("http://")
    answer = raw(attacked[0], f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
    status = int(answer.split(b" ", 2)[1])
    assert status in (400, 403, 404, 405), answer[:200]
    assert b"root:" not in answer and b"Traceback" not in answer and b'sha256"' not in answer


def test_heads_are_bounded(attacked: tuple[Server, str]) -> None:
    host = attacked[0].url.removeprefix("http://").encode()
    begin = b"GET /healthz HTTP/1.1\r\nHost: " + host + b"\r\nConnection: close\r\n"
    assert b" 200 " in raw(attacked[0], begin + b"\r\n").split(b"\r\n", 1)[0]
    for head in (b"X-Long: " + b"a" * 200_000, b"\r\n".join(b"X-%d: a" % number for number in range(20_000))):
        try:
            answer = raw(attacked[0], begin + head + b"\r\n\r\n")
        except (BrokenPipeError, ConnectionResetError):
            continue
        assert b" 200 " not in answer.split(b"\r\n", 1)[0]


def test_more_connections_than_descriptors_cost_those_alone_who_open_them(attacked: tuple[Server, str]) -> None:
    """Whoever is connected goes on, what they say is written, and the log does not fill the disk."""
    server, key = attacked
    process, log = psutil.Process(server.pid), server.log
    assert server.client.get("/healthz").status_code == 200
    before, written = process.rlimit(psutil.RLIMIT_NOFILE), log.stat().st_size
    process.rlimit(psutil.RLIMIT_NOFILE, (512, before[1]))
    port, opened = httpx.URL(server.url).port or 80, []
    try:
        for number in range(700):
            opened.append(socket.create_connection(("127.0.0.1", port), timeout=5))
            if number % 100 == 0:  # whoever is connected asks now and then, and so stays
                assert server.client.get("/healthz").status_code == 200
        assert shown(server, Authorization=f"Bearer {key}")["token"]
        ended = sum(_is_closed(each) for each in opened)
        assert 700 - 512 < ended < 700
    finally:
        for each in opened:
            each.close()
        process.rlimit(psutil.RLIMIT_NOFILE, before)
    assert log.stat().st_size - written < 2_000


def _is_closed(connection: socket.socket) -> bool:
    connection.setblocking(False)
    try:
        return connection.recv(1) == b""
    except BlockingIOError:
        return False
    except ConnectionResetError:
        return True


@pytest.mark.parametrize(
    "framing",
    [
        b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"Content-Length: 4\r\nContent-Length: 40\r\n\r\nabcd",
        b"Content-Length: -1\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffff1\r\n",
    ],
)
def test_no_request_is_smuggled(attacked: tuple[Server, str], framing: bytes) -> None:
    """Where a body ends is said once: a proxy and this server could read two ends otherwise."""
    host = attacked[0].url.removeprefix("http://").encode()
    head = b"POST /v1/feedback HTTP/1.1\r\nHost: " + host + b"\r\nConnection: close\r\n"
    hidden = b"GET /healthz HTTP/1.1\r\nHost: " + host + b"\r\nConnection: close\r\n\r\n"
    answer = raw(attacked[0], head + framing + hidden)
    assert b'{"status":"ok"}' not in answer and b" 200 " not in answer.split(b"\r\n", 1)[0], answer[:300]


def test_tokens_are_for_one_person_and_one_comparison(attacked: tuple[Server, str]) -> None:
    server, key = attacked
    ada = {"Authorization": f"Bearer {key}"}
    hers, other = shown(server, **ada), shown(server, **ada)
    body, _, signature = hers["token"].rpartition(".")
    forged = [
        "", "x", hers["token"][:-2], hers["token"] + "A", f"{body}.", f"{body}.{signature[::-1]}", other["token"],
        base64.urlsafe_b64encode(b'{"alg":"none"}').decode() + "." + body + ".",
    ]  # fmt: skip
    path = f"/v1/comparisons/{hers['comparison_id']}/vote"
    for token in forged:
        refused = server.client.post(path, json={"token": token, "vote": "left"}, headers=ada)
        assert refused.status_code in (400, 403), (token, refused.text)
    vote = {"token": hers["token"], "vote": "left"}
    assert server.client.post(path, json=vote).status_code == 403, "borrowed"
    assert server.client.post(path, json=vote, headers=ada).status_code == 201
    opposite = server.client.post(path, json={**vote, "vote": "right"}, headers=ada)
    assert (opposite.status_code, opposite.json()["error"]["code"]) == (409, "already_voted"), "replayed"


def test_sessions_are_not_forged(attacked: tuple[Server, str]) -> None:
    server, key = attacked
    with httpx.Client(base_url=server.url) as browser:
        assert browser.post("/sign-in", data={"key": key}).status_code == 303
        session = browser.cookies["dpo_session"]
    payload, rest = session.split(".", 1)
    other = base64.urlsafe_b64encode(b'"00000000"').decode().rstrip("=")
    for forged in (f"{other}.{rest}", session[:-1], payload, f"{payload}..", "a" * 5000):
        assert httpx.get(f"{server.url}/session", cookies={"dpo_session": forged}).json()["name"] is None
    assert httpx.get(f"{server.url}/session", cookies={"dpo_session": session}).json()["name"] == "Ada"


@pytest.mark.parametrize(
    "call",
    [
        {"data": [1] * 30_000},
        {"data": [[[1] * 10_000] * 3]},
        {"data": [{f"field {number}": 1 for number in range(30_000)}]},
        {"data": []} | {f"field {number}": 1 for number in range(30_000)},
    ],
)
def test_a_call_of_a_page_that_would_hold_everybody_up_is_refused(
    attacked: tuple[Server, str], call: dict[str, Any]
) -> None:
    """Gradio goes through every value that it is sent, on the loop: a body of 1 MB took it 2 s."""
    refused = attacked[0].client.post("/gradio_api/queue/join", json=call | {"session_hash": "x", "fn_index": 1})
    assert refused.status_code == 400 and "20,000 values" in refused.json()["error"]["message"]


def test_every_answer_says_what_browsers_may_do_with_it(attacked: tuple[Server, str]) -> None:
    client = attacked[0].client
    refused = [
        client.get("/v1/models", headers=each) for each in ({"Origin": "https://evil.example"}, {"Host": "e.example"})
    ]
    for answer in [*map(client.get, OTHERS), *refused, client.post("/v1/comparisons", content=b"{")]:
        told = answer.headers
        assert "default-src 'none'; frame-ancestors 'none'" in told["content-security-policy"], answer.url
        assert (told["x-content-type-options"], told["x-frame-options"]) == ("nosniff", "DENY"), answer.url
        assert told["referrer-policy"] == "same-origin", answer.url
    for path in ("/sign-in", "/versions/v9.9", "/reports/none", "/docs"):
        told = client.get(path).headers
        assert told["content-type"].startswith("text/html") and told["x-frame-options"] == "DENY", path
        policy = told["content-security-policy"]
        assert "default-src 'none'; frame-ancestors 'none'; base-uri 'none'" in policy, path
        assert "unsafe-inline" not in policy or path == "/docs", path
        assert "script-src" not in policy or "script-src 'self' 'sha256-" in policy, path
    for path in PAGES:
        told = client.get(path).headers
        assert told["x-frame-options"] == "SAMEORIGIN" and "default-src 'self'" in told["content-security-policy"], path
        assert "frame-ancestors 'self'; object-src 'none'; base-uri 'self'" in told["content-security-policy"], path


@pytest.mark.browser
def test_no_page_stands_in_a_foreign_frame(browser: "Browser", attacked: tuple[Server, str]) -> None:
    """Clickjacking, by a page under another name of this machine; and plain pages show as they should."""
    server, _ = attacked
    with tab(browser, f"{server.url}/sign-in", wait="#key") as opened:
        page = opened.page
        assert page.locator("button").evaluate("node => getComputedStyle(node).backgroundColor") == "rgb(67, 56, 202)"
        opened.assert_clean()
        other = server.url.replace("127.0.0.1", "localhost")
        page.route("**/frames", lambda route: route.fulfill(
            content_type="text/html",
            body="".join(f'<iframe src="{server.url}{path}"></iframe>' for path in ("/", "/sign-in", "/docs")),
        ))  # fmt: skip
        page.goto(f"{other}/frames")
        page.wait_for_timeout(1500)
        inside = [frame for frame in page.frames if frame is not page.main_frame]
        assert len(inside) == 3 and all(not frame.locator("input, button").count() for frame in inside)
        opened.errors.clear()
