"""Who may do what: each row of the security table that serving owns."""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from dpo_pipeline.request_errors import TooManyRequests
from dpo_pipeline.serving.access import RateLimits
from dpo_pipeline.settings import Limits, Settings
from dpo_pipeline.stores.ledger import Ledger
from dpo_pipeline_tests.programs_under_test import Server, serving
from dpo_pipeline_tests.serving.conftest import WITH_PAGES
from dpo_pipeline_tests.upstream import Upstream, answered_by

pytestmark = pytest.mark.slow
QUESTION = "Why is the sky blue?"
CHAT = "/v1/chat/completions"
KEY = {"Authorization": "Bearer let-me-in-please"}
ADMIN = {"X-Admin-Key": "root-of-all-evils"}
PLANTED = ("ada.canary@mail.example.org", "4111 1111 1111 1111", "sk-canarycanarycanarycanary")


@pytest.fixture(scope="module")
def guarded(own_project: Settings, models: Upstream) -> Iterator[Server]:
    variables = WITH_PAGES | {
        "DPO_KEYS__API": "let-me-in-please",
        "DPO_KEYS__ADMIN": "root-of-all-evils",
        "DPO_ACCESS__ORIGINS": json.dumps(["https://app.example"]),
        "DPO_LIMITS__BODY_BYTES": "20000",
        "DPO_LIMITS__ANSWERS_PER_MINUTE": "40",
        "DPO_LIMITS__VOTES_PER_MINUTE": "12",
    }
    with serving(own_project.data_dir, **variables, **answered_by(models)) as running:
        running.client.headers.update(KEY)
        yield running


def compare(server: Server, **fields: Any) -> Any:
    return server.client.post("/v1/comparisons", json={"prompt": QUESTION, "annotator": "ann", **fields})


def vote(server: Server, shown: dict[str, Any], **headers: str) -> Any:
    path = f"/v1/comparisons/{shown['comparison_id']}/vote"
    return server.client.post(path, json={"token": shown["token"], "vote": "left"}, headers=headers)


@pytest.mark.parametrize("key", ["", "Bearer wrong", "let-me-in-pleas", "Bearer let-me-in-please-2"])
@pytest.mark.parametrize("path", ["/v1/models", "/v1/rollout", "/v1/comparisons/next", "/v1/nothing"])
def test_without_the_key_every_v1_route_is_shut(guarded: Server, path: str, key: str) -> None:
    answer = guarded.client.get(path, headers={"Authorization": key})
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_api_key")
    assert guarded.client.get("/healthz", headers={"Authorization": key}).status_code == 200


def test_a_page_of_a_foreign_origin_cannot_vote(guarded: Server) -> None:
    shown = compare(guarded).json()
    foreign = vote(guarded, shown, Origin="https://evil.example")
    assert (foreign.status_code, foreign.json()["error"]["code"]) == (403, "foreign_origin")
    assert vote(guarded, shown, Origin="null").status_code == 403
    assert vote(guarded, shown, Origin="https://app.example").status_code == 201
    own = vote(guarded, compare(guarded).json(), Origin=guarded.url)
    assert own.status_code == 201


def test_a_name_made_to_point_here_is_a_foreign_origin(guarded: Server) -> None:
    """DNS rebinding: the browser sends the same foreign name as Origin and as Host."""
    rebound = {"Origin": "http://evil.example:8000", "Host": "evil.example:8000"}
    answer = vote(guarded, compare(guarded).json(), **rebound)
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "foreign_origin")
    port = guarded.url.rsplit(":", 1)[1]
    own = {"Origin": f"http://localhost:{port}", "Host": f"localhost:{port}"}
    assert vote(guarded, compare(guarded).json(), **own).status_code == 201


def test_the_limit_by_address_counts_everybody_but_this_machine() -> None:
    now = 0.0
    limits = RateLimits(Limits(address_per_minute=3, votes_per_minute=2), clock=lambda: now)
    for number in range(3):
        limits.check("votes", f"person {number}", "198.51.100.7")
        limits.check("votes", f"neighbour {number}", "127.0.0.1")
    with pytest.raises(TooManyRequests, match=r"198\.51\.100\.7"):
        limits.check("votes", "person 4", "198.51.100.7")
    limits.check("votes", "person 4", "198.51.100.8")
    limits.check("votes", "neighbour 4", "::1")
    now = 120.0
    limits.check("votes", "person 5", "198.51.100.7")


def test_a_listed_origin_may_call_from_a_browser(guarded: Server) -> None:
    asked = {"Origin": "https://app.example", "Access-Control-Request-Method": "POST"}
    asked["Access-Control-Request-Headers"] = "authorization,content-type"
    answer = guarded.client.options("/v1/feedback", headers=asked)
    assert answer.headers["access-control-allow-origin"] == "https://app.example"
    asked["Origin"] = "https://evil.example"
    assert "access-control-allow-origin" not in guarded.client.options("/v1/feedback", headers=asked).headers


def test_a_body_that_is_too_large_is_refused_with_and_without_its_length(guarded: Server) -> None:
    large = json.dumps({"model": "v1.0", "messages": [{"role": "user", "content": "x" * 30_000}]}).encode()
    headers = {"Content-Type": "application/json"}
    known = guarded.client.post(CHAT, content=large, headers=headers)
    chunked = guarded.client.post(CHAT, content=iter([large[:9000], large[9000:]]), headers=headers)
    for answer in (known, chunked):
        assert (answer.status_code, answer.json()["error"]["code"]) == (413, "body_too_large"), answer.text


def test_one_person_cannot_flood(guarded: Server) -> None:
    def in_one_minute(attempt: Callable[[str], list[httpx.Response]]) -> list[httpx.Response]:
        """Once more by another person where the clock's minute ended meanwhile: by it the server counts."""
        began, answers = time.monotonic() // 60, attempt("first")
        return answers if time.monotonic() // 60 == began else attempt("second")

    def flood(person: str) -> list[httpx.Response]:
        return [guarded.client.post(CHAT, json=chat(user=f"{person} flood", max_tokens=1)) for _ in range(42)]

    def vote_fast(person: str) -> list[httpx.Response]:
        shown = [compare(guarded, annotator=f"{person} fast voter").json() for _ in range(13)]
        return [vote(guarded, one) for one in shown]

    answers = in_one_minute(flood)
    assert [answer.status_code for answer in answers] == [200] * 40 + [429] * 2
    assert answers[-1].json()["error"]["code"] == "rate_limited" and answers[-1].headers["retry-after"]
    assert guarded.client.post(CHAT, json=chat(user="somebody else", max_tokens=1)).status_code == 200
    assert [answer.status_code for answer in in_one_minute(vote_fast)] == [201] * 12 + [429]


def test_only_the_admin_orders_the_rollout(guarded: Server, own_project: Settings) -> None:
    with Ledger(own_project.ledger_address) as ledger:
        ledger.start_rollout("v1.1", ledger.deployment().epoch, ("test",), "test")
    order = {"reason": "looks wrong to me"}
    for headers in ({}, {"X-Admin-Key": "wrong"}, {"X-Admin-Key": "let-me-in-please"}):
        answer = guarded.client.post("/v1/rollout/abort", json=order, headers=headers)
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "role_required")
    paused = guarded.client.post("/v1/rollout/pause", json=order, headers=ADMIN)
    assert paused.status_code == 200 and paused.json()["paused"] is True
    assert guarded.client.post("/v1/rollout/resume", json=order, headers=ADMIN).json()["paused"] is False
    promoted = guarded.client.post("/v1/rollout/promote", json=order, headers=ADMIN).json()
    assert (promoted["stage"], promoted["traffic"]) == ("canary", 0.05), "one stage, and serving follows at once"
    aborted = guarded.client.post("/v1/rollout/abort", json=order, headers=ADMIN).json()
    assert aborted["version"] is None and aborted["history"][-1]["reasons"] == ["looks wrong to me"]
    assert aborted["history"][-1]["actor"] == "admin"
    page = guarded.client.get("/v1/rollout", params={"limit": 1}).json()
    assert page["history"] == aborted["history"][-1:] and page["earlier"] == page["history"][0]["id"]
    before = guarded.client.get("/v1/rollout", params={"limit": 1, "before": page["earlier"]}).json()
    assert before["history"] == aborted["history"][-2:-1] and before["evidence"] == page["evidence"]
    again = guarded.client.post("/v1/rollout/abort", json=order, headers=ADMIN)
    assert (again.status_code, again.json()["error"]["code"]) == (409, "order_refused")
    assert guarded.client.post("/v1/rollout/pause", json={}, headers=ADMIN).status_code == 400


def test_the_admins_key_is_not_guessed_where_no_key_is_asked_for(guarded: Server) -> None:
    """Outside of the API a key that opens nothing is ignored, as OpenAI's clients send some; different ones count."""
    with httpx.Client(base_url=guarded.url, transport=httpx.HTTPTransport(local_address="127.0.0.4")) as guesser:

        def tries(key: str) -> int:
            return guesser.get("/session", headers={"Authorization": f"Bearer {key}"}).status_code

        assert {tries("the same each time") for _ in range(30)} == {200}
        assert [tries(f"guess {number} of many") for number in range(20)] == [200] * 19 + [429]
        assert tries("root-of-all-evils") == 429


def test_personal_data_is_nowhere_on_disk(guarded: Server, own_project: Settings) -> None:
    text = "I am " + " and ".join(PLANTED)
    shown = compare(guarded, prompt=text, annotator=PLANTED[0]).json()
    assert vote(guarded, shown).status_code == 201
    answered = guarded.client.post(CHAT, json=chat(user=PLANTED[0], content=text)).json()
    corrected = {"request_id": answered["id"], "correction": "Write to " + PLANTED[0]}
    assert guarded.client.post("/v1/feedback", json=corrected).status_code == 201
    found = [
        (path, planted)
        for path in own_project.data_dir.rglob("*")
        if path.is_file() and "base" not in path.parts
        for planted in PLANTED
        if planted.encode() in path.read_bytes()
    ]
    assert found == []
    assert "[e-mail]" in own_project.prefs_log.read_text() and "[card]" in own_project.prefs_log.read_text()


def test_logs_hold_no_prompts(guarded: Server, own_project: Settings) -> None:
    guarded.client.post(CHAT, json=chat(content="xylophone canary"))
    guarded.client.post(CHAT, json=chat(content="xylophone canary " * 200))
    said = (own_project.data_dir / "serve.log").read_text()
    requests = "".join(path.read_text() for path in own_project.serving_log_dir.glob("*.jsonl"))
    assert "xylophone" not in said + requests


def test_payloads_are_data(guarded: Server, own_project: Settings) -> None:
    payload = "'); drop table pairs; -- {prompt} {{7*7}} <|im_start|>system ${HOME} \u2028 <img src=x onerror=alert(1)>"
    shown = compare(guarded, prompt=payload, annotator="payload").json()
    assert shown["prompt"] == payload and vote(guarded, shown).status_code == 201
    last = json.loads(own_project.prefs_log.read_text().split("\n")[-2])
    assert last["prompt"] == payload


def test_the_signing_key_is_its_owners_alone(guarded: Server, own_project: Settings) -> None:
    key: Path = own_project.data_dir / "serving.key"
    assert key.stat().st_mode & 0o077 == 0


def test_settings_never_print_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    from typer.testing import CliRunner

    from dpo_pipeline.cli import app

    monkeypatch.setenv("DPO_KEYS__API", "let-me-in-please")
    for arguments in (["settings"], ["settings", "--json"]):
        assert "let-me-in-please" not in CliRunner().invoke(app, arguments).output


def chat(content: str = QUESTION, **fields: Any) -> dict[str, Any]:
    return {"model": "v1.0", "messages": [{"role": "user", "content": content}], **fields}
