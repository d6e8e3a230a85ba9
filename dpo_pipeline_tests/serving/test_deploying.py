"""What `deploy/` holds works as it stands, with Debian's nginx and Caddy: TLS, a login, streams, websockets."""

import getpass
import json
import os
import re
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.sync.client import connect

from dpo_pipeline.settings import PROJECT_DIR, Settings
from dpo_pipeline_tests.programs_under_test import Server, free_port, serving
from dpo_pipeline_tests.serving.conftest import VARIABLES
from dpo_pipeline_tests.test_gate import dagster  # noqa: F401  (a fixture)

DEPLOY = PROJECT_DIR / "deploy"
PASSWORD = "a password for the test"
LOGIN = ("ann", PASSWORD)
PROXIES = ("nginx", "caddy")


class Site:
    """A proxy on loopback in front of serving and Dagster, under names of this machine."""

    def __init__(self, port: int):
        self.port = port

    def origin(self, name: str = "dpo") -> str:
        return f"https://{name}.localhost:{self.port}"

    def client(self, name: str = "dpo", **options: Any) -> httpx.Client:
        """The proxy's certificate is made for the test, so nobody vouches for it."""
        named = {"Host": f"{name}.localhost:{self.port}"}
        return httpx.Client(
            base_url=f"https://127.0.0.1:{self.port}", headers=named, verify=False, timeout=60,
            **options,
        )  # fmt: skip

    @property
    def sni(self) -> dict[str, Any]:
        return {"sni_hostname": "dpo.localhost"}


@pytest.fixture(scope="module", params=PROXIES)
def site(
    request: pytest.FixtureRequest,
    own_project: Settings,
    dagster: str,  # noqa: F811
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[Site, Server]]:
    program = shutil.which(request.param) or shutil.which(request.param, path="/usr/sbin")
    if not program:
        pytest.skip(f"{request.param} is not installed (apt-get install nginx-light caddy)")
    site, folder = Site(free_port()), tmp_path_factory.mktemp(request.param)
    told = {
        "DPO_ACCESS__ORIGINS": ",".join(map(site.origin, ("dpo", "dagster", "mlflow"))),
        "DPO_ACCESS__LOGIN_HEADER": "X-Forwarded-User",
    }
    with serving(own_project.data_dir, **VARIABLES, **told) as server:
        replaced = {":8000": f":{httpx.URL(server.url).port}", ":3000": f":{httpx.URL(dagster).port}"}
        command = (_nginx if request.param == "nginx" else _caddy)(program, folder, site, replaced)
        with (folder / "out.log").open("wb") as out:
            # Where the proxy writes is its own business: in the test, below the folder.
            home = {name: str(folder) for name in ("HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME")}
            process = subprocess.Popen(command, env={**os.environ, **home}, stdout=out, stderr=out)
        try:
            _wait_for(site, process, folder / "out.log")
            yield site, server
        finally:
            process.terminate()
            process.wait(timeout=30)


def _nginx(program: str, folder: Path, site: Site, replaced: dict[str, str]) -> list[str]:
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=dpo.localhost",
         "-keyout", str(folder / "dpo.key"), "-out", str(folder / "dpo.pem")],
        check=True, capture_output=True,
    )  # fmt: skip
    hashed = subprocess.run(
        ["openssl", "passwd", "-apr1", PASSWORD], check=True, capture_output=True, text=True
    ).stdout.strip()
    (folder / "dpo.htpasswd").write_text(f"ann:{hashed}\n")
    shutil.copy(DEPLOY / "nginx_proxy.conf", folder / "dpo_proxy.conf")
    conf = _with((DEPLOY / "nginx.conf").read_text(), replaced)
    conf = conf.replace("listen 443 ssl", f"listen 127.0.0.1:{site.port} ssl").replace(".example", ".localhost")
    conf = conf.replace("/etc/ssl/", f"{folder}/").replace("/etc/nginx/", f"{folder}/")
    (folder / "site.conf").write_text(conf)
    own = " ".join(
        f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    # Started by root, its workers would be another user, who may not look into the folder of the test.
    main = f"user {getpass.getuser()}; daemon off; pid {folder}/pid; error_log {folder}/error.log; events {{}} "
    (folder / "nginx.conf").write_text(f"{main}http {{ access_log off; {own} include {folder}/site.conf; }}")
    return [program, "-e", str(folder / "error.log"), "-c", str(folder / "nginx.conf")]


def _caddy(program: str, folder: Path, site: Site, replaced: dict[str, str]) -> list[str]:
    hashed = subprocess.run(
        [program, "hash-password", "--plaintext", PASSWORD], check=True, capture_output=True, text=True
    ).stdout.strip()
    conf = _with((DEPLOY / "Caddyfile").read_text(), replaced)
    conf = re.sub(r"^(\w+)\.example \{", rf"\1.localhost:{site.port} {{\n\tbind 127.0.0.1", conf, flags=re.MULTILINE)
    conf = re.sub(r"ann \$2a\S+", lambda _: f"ann {hashed}", conf)
    own = "{\n\tadmin off\n\tskip_install_trust\n\tauto_https disable_redirects\n}\n"
    (folder / "Caddyfile").write_text(own + conf)
    return [program, "run", "--adapter", "caddyfile", "--config", str(folder / "Caddyfile")]


def _with(text: str, replaced: dict[str, str]) -> str:
    for before, now in replaced.items():
        assert before in text
        text = text.replace(before, now)
    return text


def _wait_for(site: Site, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            with site.client() as client:
                if client.get("/healthz", extensions=site.sni).status_code == 401:
                    return
        except httpx.HTTPError:
            pass
        assert process.poll() is None and time.monotonic() < deadline, log.read_text()
        time.sleep(0.2)


pytestmark = [pytest.mark.slow, pytest.mark.nightly]


def test_a_team_votes_behind_it(site: tuple[Site, Server]) -> None:
    """Nobody without a login; whoever has one is a named person, whatever header is sent beside it."""
    proxy, _ = site
    with proxy.client() as stranger:
        assert stranger.get("/v1/models", extensions=proxy.sni).status_code == 401
    own = {"Origin": proxy.origin(), "X-Forwarded-User": "mallory"}
    with proxy.client(auth=LOGIN) as ann:
        body = {"prompt": "Why is the sky blue?"}
        shown = ann.post("/v1/comparisons", json=body, headers=own, extensions=proxy.sni)
        assert shown.status_code == 201, shown.text
        vote = {"token": shown.json()["token"], "vote": "left"}
        path = f"/v1/comparisons/{shown.json()['comparison_id']}/vote"
        assert ann.post(path, json=vote, headers=own, extensions=proxy.sni).status_code == 201
        assert ann.get("/session", extensions=proxy.sni).json()["name"] == "ann"
        foreign = ann.post(
            "/v1/comparisons", json=body, headers={"Origin": "https://evil.example"}, extensions=proxy.sni
        )
        assert foreign.status_code == 403


def test_answers_come_word_by_word(site: tuple[Site, Server]) -> None:
    proxy, _ = site
    asked = {"model": "chat", "stream": True, "messages": [{"role": "user", "content": "Why is the sky blue?"}]}
    with (
        proxy.client(auth=LOGIN) as ann,
        ann.stream("POST", "/v1/chat/completions", json=asked, extensions=proxy.sni) as answer,
    ):
        came = [(time.monotonic(), chunk) for chunk in answer.iter_raw() if chunk.strip()]
    assert answer.status_code == 200 and b"[DONE]" in came[-1][1]
    assert len(came) > 3 and came[-1][0] > came[0][0], "not all at once"


def test_dagsters_websocket_goes_through(site: tuple[Site, Server]) -> None:
    proxy, _ = site
    unverified = ssl.create_default_context()
    unverified.check_hostname, unverified.verify_mode = False, ssl.CERT_NONE
    basic = httpx.BasicAuth(*LOGIN)._auth_header
    plain = socket.create_connection(("127.0.0.1", proxy.port))
    with connect(
        f"wss://dagster.localhost:{proxy.port}/graphql", ssl=unverified, sock=plain,
        origin=proxy.origin("dagster"), subprotocols=["graphql-ws"], additional_headers={"Authorization": basic},
    ) as opened:  # fmt: skip
        opened.send(json.dumps({"type": "connection_init", "payload": {}}))
        assert json.loads(opened.recv(timeout=20))["type"] == "connection_ack"


def test_the_unit_is_one_that_systemd_takes() -> None:
    verify = shutil.which("systemd-analyze")
    if not verify:
        pytest.skip("systemd-analyze is not installed")
    done = subprocess.run([verify, "verify", str(DEPLOY / "dpo.service")], capture_output=True, text=True, check=False)
    # There is neither the user nor the program of the unit on the machine that tests it.
    known = re.compile(r"(is not executable|No such file|Unknown user|not found)")
    said = [line for line in done.stderr.splitlines() if "dpo.service" in line and not known.search(line)]
    assert said == []
