"""Who votes, rates and orders: by keys, by sessions, at the machine, or nobody that is known. Against a real server."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from dpo_pipeline.core.serving_records import FeedbackRecord, RequestRecord
from dpo_pipeline.settings import Settings
from dpo_pipeline.stores.audit import AuditLog
from dpo_pipeline.stores.key_ring import KeyRing, local_key
from dpo_pipeline.stores.serving_log import read_records
from dpo_pipeline.stores.serving_state import ServingState
from dpo_pipeline_tests.browser import tab
from dpo_pipeline_tests.programs_under_test import Server, eventually, serving
from dpo_pipeline_tests.serving.ab_page.desk import DONE, ready
from dpo_pipeline_tests.serving.callers import QUESTION, bearer, calling_from, newest, person, voted
from dpo_pipeline_tests.serving.conftest import WITH_PAGES, beside
from dpo_pipeline_tests.upstream import Upstream, answered_by

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.slow
ELSEWHERE = {"X-Forwarded-For": "198.51.100.7"}


@pytest.fixture(scope="module")
def open_to_all(own_project: Settings, models: Upstream) -> Iterator[tuple[Server, Settings]]:
    """Nobody holds a key yet."""
    settings = beside(own_project)
    with serving(settings.data_dir, **WITH_PAGES, **answered_by(models), DPO_LIMITS__NEW_PEOPLE_PER_DAY="6") as running:
        yield running, settings


@pytest.fixture(scope="module")
def team(own_project: Settings, models: Upstream) -> Iterator[tuple[Server, Settings, dict[str, str]]]:
    """A team whose members hold keys."""
    settings = beside(own_project)
    ring = KeyRing(settings.keys_log)
    keys = {
        "Ada": ring.add("Ada", "rater"),
        "Bob": ring.add("Bob", "rater"),
        "Vera": ring.add("Vera", "viewer"),
        "Rita": ring.add("Rita", "reviewer"),
        "Olga": ring.add("Olga", "operator"),
        "shop": ring.add("the shop", "service"),
    }
    with serving(settings.data_dir, **WITH_PAGES, **answered_by(models)) as running:
        yield running, settings, keys


def sign_in(page: "Page", key: str) -> None:
    page.fill("#key", key)
    page.get_by_role("button", name="Sign in").click()


def test_at_the_machine_a_name_counts_once_it_is_known_for_a_day(open_to_all: tuple[Server, Settings]) -> None:
    server, settings = open_to_all
    assert voted(server, annotator="ann").status_code == 201
    vote = newest(settings)
    assert (vote.annotator, vote.identity, vote.is_proven) == (person(settings, "ann"), "new", False)
    program = bearer(local_key(settings))
    assert voted(server, program, annotator="ann").status_code == 201
    assert (newest(settings).annotator, newest(settings).identity) == (vote.annotator, "named")


def test_from_elsewhere_a_name_is_a_claim(open_to_all: tuple[Server, Settings]) -> None:
    server, settings = open_to_all
    assert voted(server, ELSEWHERE, annotator="ann").status_code == 201
    vote = newest(settings)
    assert vote.identity == "anonymous" and vote.annotator != person(settings, "ann")
    other = {"X-Forwarded-For": "198.51.100.8"}
    assert voted(server, other, annotator="ann").status_code == 201
    assert newest(settings).annotator != vote.annotator, "not the same of another address either"


def test_one_address_brings_so_many_people_a_day(open_to_all: tuple[Server, Settings]) -> None:
    server, settings = open_to_all
    crowd = {"X-Forwarded-For": "198.51.100.9"}
    answers = [voted(server, crowd, annotator=f"name {number}") for number in range(8)]
    assert [each.status_code for each in answers] == [201] * 6 + [429] * 2
    assert "6 people without a key came from 198.51.100.9" in answers[-1].json()["error"]["message"]
    assert voted(server, crowd, annotator="name 0").status_code == 201, "whoever was met goes on"
    for number in range(8):
        assert voted(server, annotator=f"local {number}").status_code == 201
    assert newest(settings).identity == "anonymous", "one too many at the machine is no better known than a stranger"


def test_who_names_versions_or_seeds_is_marked(open_to_all: tuple[Server, Settings]) -> None:
    server, settings = open_to_all
    for fields, steered in (
        ({}, False), ({"models": ["v1.0", "v1.1"]}, True), ({"temperature": 0}, True), ({"seed": 3}, True),
    ):  # fmt: skip
        assert voted(server, annotator="ann", **fields).status_code == 201
        assert newest(settings).steered == steered, fields


def test_a_key_says_who_somebody_is(team: tuple[Server, Settings, dict[str, str]]) -> None:
    server, settings, keys = team
    assert voted(server, bearer(keys["Ada"]), annotator="Bob").status_code == 201
    vote = newest(settings)
    assert (vote.annotator, vote.identity) == (person(settings, "Ada"), "named"), "nobody speaks as somebody else"
    assert voted(server, annotator="Ada").status_code == 201
    assert newest(settings).identity == "anonymous" and newest(settings).annotator != vote.annotator
    assert voted(server, bearer(keys["shop"]), annotator="customer 7").status_code == 201
    assert (newest(settings).annotator, newest(settings).identity) == (person(settings, "customer 7"), "named")


def test_a_comparison_is_for_whoever_asked(team: tuple[Server, Settings, dict[str, str]]) -> None:
    server, _, keys = team
    shown = server.client.post("/v1/comparisons", json={"prompt": QUESTION}, headers=bearer(keys["Ada"])).json()
    path, body = f"/v1/comparisons/{shown['comparison_id']}/vote", {"token": shown["token"], "vote": "left"}
    stolen = server.client.post(path, json=body, headers=bearer(keys["Bob"]))
    assert (stolen.status_code, stolen.json()["error"]["code"]) == (403, "token_refused")
    assert server.client.post(path, json=body, headers=bearer(keys["Ada"])).status_code == 201


def test_requests_and_ratings_carry_it_too(team: tuple[Server, Settings, dict[str, str]]) -> None:
    server, settings, keys = team
    body = {"model": "chat", "user": "Ada", "messages": [{"role": "user", "content": QUESTION}]}
    for headers in (bearer(keys["Ada"]), None):
        answered = server.client.post("/v1/chat/completions", json=body, headers=headers).json()
        rated = {"request_id": answered["id"], "thumb": "down"}
        assert server.client.post("/v1/feedback", json=rated, headers=headers).status_code == 201

    def identities() -> set[tuple[str, Any]]:
        found = read_records(settings.serving_log_dir, "2026-01-01T00:00:00Z")
        return {
            (type(each).__name__, each.identity) for each in found if isinstance(each, RequestRecord | FeedbackRecord)
        }

    kinds = ("RequestRecord", "FeedbackRecord")
    wanted = {(kind, identity) for kind in kinds for identity in ("named", "anonymous")}
    assert eventually(identities, lambda found: found == wanted) == wanted


def test_roles_and_what_is_noted_of_them(team: tuple[Server, Settings, dict[str, str]]) -> None:
    server, settings, keys = team
    assert server.client.get("/v1/models", headers=bearer(keys["Vera"])).status_code == 200
    looks = voted(server, bearer(keys["Vera"]))
    assert (looks.status_code, looks.json()["error"]["code"]) == (403, "role_required")
    assert "Vera is a viewer" in looks.json()["error"]["message"] and "a rater is needed" in looks.text
    for who, status in (("Ada", 403), ("Rita", 403), ("shop", 403), ("Olga", 409)):
        order = server.client.post("/v1/rollout/abort", json={"reason": "I wish"}, headers=bearer(keys[who]))
        assert order.status_code == status, who
    assert server.client.post("/v1/rollout/abort", json={"reason": "I wish"}).status_code == 403
    entries = [(e.who, e.outcome) for e in AuditLog(settings.audit_log).entries() if e.what == "rollout: abort"]
    assert entries == [
        ("Ada", "refused"), ("Rita", "refused"), ("the shop", "refused"), ("Olga", "allowed"), ("unknown", "refused")
    ]  # fmt: skip


def test_a_wrong_key_waits_is_noted_and_delays_nobody_else(team: tuple[Server, Settings, dict[str, str]]) -> None:
    server, settings, keys = team
    begun = time.monotonic()
    refused = server.client.get("/v1/models", headers=bearer(keys["Ada"][:-4] + "aaaa"))
    assert (refused.status_code, refused.json()["error"]["code"]) == (401, "invalid_api_key")
    assert time.monotonic() - begun >= 1
    assert server.client.get("/v1/models", headers=bearer("whatever OpenAI's client sends")).status_code == 200
    last = list(AuditLog(settings.audit_log).entries())[-1]
    assert (last.what, last.address, last.outcome) == ("sent a key that is wrong", "127.0.0.1", "refused")


def test_whoever_tries_keys_is_shut_out_and_others_are_not(team: tuple[Server, Settings, dict[str, str]]) -> None:
    """Side by side, by every door that takes a key; and noted once, not at each try."""
    server, settings, keys = team

    def tries(number: int) -> httpx.Response:
        key = f"dpo-{number:08x}-no-such-key"
        with calling_from("127.0.0.3", server) as guesser:
            if number % 3 == 0:
                return guesser.post("/sign-in", data={"key": key})
            headers = bearer(key) if number % 3 == 1 else {"X-Admin-Key": key}
            return guesser.get("/v1/models" if number % 2 else "/session", headers=headers)

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(tries, range(60)))
    refused = [each for each in answers if each.status_code == 429]
    assert len(refused) == 40 and {each.status_code for each in answers} == {401, 403, 429}
    assert all(1 <= int(each.headers["retry-after"]) <= 60 for each in refused)
    with calling_from("127.0.0.3", server) as guesser:
        right = guesser.get("/v1/models", headers=bearer(keys["Ada"]))
        assert (right.status_code, right.json()["error"]["code"]) == (429, "too_many_wrong_keys"), "nor a right one"
        assert "20 wrong keys came from 127.0.0.3" in right.text
        page = guesser.post("/sign-in", data={"key": keys["Ada"]})
        assert page.status_code == 429 and "20 wrong keys" in page.text and page.headers["retry-after"]
        assert guesser.get("/v1/models").status_code == 200, "it is keys that are not looked at"
        assert guesser.get("/session", headers=bearer(local_key(settings))).json()["name"], "the loop goes on"
    assert server.client.get("/session", headers=bearer(keys["Ada"])).json()["name"] == "Ada"
    noted = [each.what for each in AuditLog(settings.audit_log).entries() if each.address == "127.0.0.3"]
    assert len(noted) == 20 and sum("none is looked at" in each for each in noted) == 1


def test_a_key_that_was_taken_back_opens_nothing(team: tuple[Server, Settings, dict[str, str]]) -> None:
    server, settings, _ = team
    ring = KeyRing(settings.keys_log)
    gone = ring.add("Gus", "rater")
    with httpx.Client(base_url=server.url) as browser:
        assert browser.post("/sign-in", data={"key": gone}).status_code == 303
        assert browser.get("/session").json()["name"] == "Gus"
        ring.revoke("Gus")
        assert browser.get("/session").json()["name"] is None
    assert server.client.get("/v1/models", headers=bearer(gone)).status_code == 401


def test_nobody_acts_for_a_key_that_is_not_sent(team: tuple[Server, Settings, dict[str, str]]) -> None:
    """Whoever has the token of a comparison, or the id of an answer, has no more than that; nor after a revocation."""
    server, settings, _ = team
    ring = KeyRing(settings.keys_log)
    key = ring.add("Ivan", "rater")
    shown = server.client.post("/v1/comparisons", json={"prompt": QUESTION}, headers=bearer(key)).json()
    body = {"model": "chat", "messages": [{"role": "user", "content": QUESTION}]}
    answered = server.client.post("/v1/chat/completions", json=body, headers=bearer(key)).json()
    path, vote = f"/v1/comparisons/{shown['comparison_id']}/vote", {"token": shown["token"], "vote": "left"}
    rating = {"request_id": answered["id"], "rating": 1}
    before = settings.prefs_log.read_bytes() if settings.prefs_log.exists() else b""
    for _ in range(2):
        for refused in (server.client.post(path, json=vote), server.client.post("/v1/feedback", json=rating)):
            assert (refused.status_code, refused.json()["error"]["code"]) == (403, "token_refused"), refused.text
        if "Ivan" in [each.name for each in ring.accounts()]:
            ring.revoke("Ivan")
    assert (settings.prefs_log.read_bytes() if settings.prefs_log.exists() else b"") == before


def test_a_page_takes_no_name_for_a_person(team: tuple[Server, Settings, dict[str, str]]) -> None:
    """The id that a browser draws is a field like any other: a name in its place is nobody's."""
    server, settings, keys = team
    with httpx.Client(base_url=server.url) as ada:
        for then, leads in (("/chat", "/chat"), ("//evil.example", "/"), ("https://evil.example/", "/")):
            answer = ada.post("/sign-in", params={"then": then}, data={"key": keys["Ada"]})
            assert (answer.status_code, answer.headers["location"]) == (303, leads), "no page leads elsewhere"
        told = pressed(ada, "Join or rename", ["", "Ada L"])
        assert "You are now Ada L" in told, told
    assert "no id yet" in pressed(server.client, "Join or rename", ["Ada", "Mallory"])
    pressed(server.client, "Leave: remove my nickname", ["Ada"])
    with closing(ServingState(settings.serving_state)) as state:
        assert state.nicknames()[person(settings, "Ada")] == "Ada L"


def pressed(client: httpx.Client, label: str, data: list[str]) -> str:
    """What a button of the contributors' page answers, asked past the page."""
    config = client.get("/config").json()
    [button] = [each["id"] for each in config["components"] if each["props"].get("value") == label]
    events = [each for each in config["dependencies"] if [button, "click"] in each["targets"]]
    body = {"data": data, "fn_index": events[0]["id"], "session_hash": "past-the-page"}
    return client.post("/gradio_api/run/predict", json=body).text


@pytest.mark.parametrize("odd", ["flag; ", 'p={"a": 1}; ', "a@b=1; ", "ä=ö; "])
def test_odd_cookies_of_others_hide_no_session(team: tuple[Server, Settings, dict[str, str]], odd: str) -> None:
    server, _, keys = team
    with httpx.Client(base_url=server.url) as browser:
        browser.post("/sign-in", data={"key": keys["Ada"]})
        session = browser.cookies["dpo_session"]
    cookies = f"{odd}dpo_session={session}".encode()
    assert httpx.get(f"{server.url}/session", headers=[(b"Cookie", cookies)]).json()["name"] == "Ada"
    assert server.client.get("/session", headers={"Authorization": f"bearer {keys['Bob']}"}).json()["name"] == "Bob"


def test_whom_nobody_knows_fills_no_disk(team: tuple[Server, Settings, dict[str, str]]) -> None:
    server, settings, _ = team
    before = len(list(AuditLog(settings.audit_log).entries()))
    for _ in range(60):
        order = server.client.post("/v1/rollout/abort", json={"reason": "I wish"}, headers=ELSEWHERE)
        assert order.status_code == 403
    assert len(list(AuditLog(settings.audit_log).entries())) - before <= 40


def test_behind_a_proxy_nobody_is_at_the_machine(open_to_all: tuple[Server, Settings]) -> None:
    server, settings = open_to_all
    port = server.url.rsplit(":", 1)[1]
    assert voted(server, {"Host": f"localhost:{port}"}, annotator="near").status_code == 201
    assert newest(settings).identity in ("new", "anonymous")
    for headers in ({"X-Forwarded-Host": "dpo.example.org"}, {"CF-Connecting-IP": "198.51.100.77"}):
        assert voted(server, headers, annotator="far").status_code == 201
        assert newest(settings).identity == "anonymous", headers


def test_a_page_of_another_site_links_to_pages_only(open_to_all: tuple[Server, Settings]) -> None:
    server, _ = open_to_all
    linked = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    assert server.client.get("/", headers=linked).status_code == 200
    assert server.client.get("/v1/comparisons/next", headers=linked).status_code == 403


def test_who_only_looks_opens_every_page(browser: "Browser", team: tuple[Server, Settings, dict[str, str]]) -> None:
    server, _, keys = team
    with tab(browser, f"{server.url}/sign-in", wait="#key") as opened:
        page = opened.page
        sign_in(page, keys["Vera"])
        page.locator("#who", has_text="Signed in as Vera, viewer.").wait_for()
        opened.go(f"{server.url}/compare")
        page.get_by_role("button", name="Generate").click()
        page.locator("#ab-result", has_text="Vera is a viewer").wait_for()
        opened.assert_clean()


def test_a_person_signs_in_votes_and_signs_out(
    browser: "Browser", team: tuple[Server, Settings, dict[str, str]]
) -> None:
    server, settings, keys = team
    with tab(browser, f"{server.url}/compare", wait="#who a") as opened:
        page = opened.page
        page.click("#who a")
        sign_in(page, "dpo-no-such-key")
        page.get_by_role("alert").wait_for()
        assert "This key opens nothing here" in page.get_by_role("alert").inner_text()
        opened.errors.clear()  # Chromium notes the 401
        sign_in(page, keys["Ada"])
        page.locator("#who", has_text="Signed in as Ada, rater.").wait_for()
        [cookie] = page.context.cookies()
        assert cookie["httpOnly"] and cookie["sameSite"] == "Lax" and keys["Ada"] not in cookie["value"]
        opened.assert_accessible()
        assert page.url == f"{server.url}/compare", "back to where one came from"
        page.get_by_role("button", name="Generate").click()
        ready(opened)
        before = settings.prefs_log.stat().st_size
        page.click("#ab-left")
        page.wait_for_selector(DONE)
        assert settings.prefs_log.stat().st_size > before
        vote = newest(settings)
        assert (vote.annotator, vote.identity, vote.steered) == (person(settings, "Ada"), "named", False)
        page.get_by_role("button", name="Sign out").click()
        page.locator("#who", has_text="Without a key you count as anonymous.").wait_for()
        opened.assert_clean()


def test_whoever_is_signed_in_gives_orders_without_a_key(
    browser: "Browser", team: tuple[Server, Settings, dict[str, str]]
) -> None:
    server, _, keys = team
    with tab(browser, f"{server.url}/sign-in", wait="#key") as opened:
        page = opened.page
        sign_in(page, keys["Olga"])
        page.locator("#who", has_text="Signed in as Olga").wait_for()
        opened.go(f"{server.url}/rollout")
        page.fill("#reason textarea, #reason input", "let me look")
        page.locator("#key").wait_for(state="hidden")
        page.get_by_role("button", name="Pause", exact=True).click()
        page.locator("#told .notice").wait_for()
        assert "rolled out" in page.inner_text("#told"), "it was Olga's to give: there was only nothing to pause"
        opened.assert_clean()


def test_where_signing_in_is_required_nobody_looks_in(own_project: Settings, models: Upstream) -> None:
    settings = beside(own_project)
    key = KeyRing(settings.keys_log).add("Ada", "rater")
    with serving(settings.data_dir, **WITH_PAGES, **answered_by(models), DPO_ACCESS__SIGN_IN="required") as server:
        sent = server.client.get("/", headers={"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"})
        assert (sent.status_code, sent.headers["location"]) == (303, "/sign-in")
        for path in ("/v1/models", "/metrics", "/docs", "/gradio_api/queue/data", "/config"):
            assert server.client.get(path).status_code == 401, path
        assert server.client.get("/sign-in").status_code == 200 and server.client.get("/healthz").status_code == 200
        assert server.client.get("/v1/models", headers=bearer(key)).status_code == 200
        assert server.client.post("/sign-in", data={"key": key}).status_code == 303
        assert server.client.get("/").status_code == 200
        settings.keys_log.write_text("no event of a key\n")
        shut = server.client.get("/v1/models", headers=bearer(key))
        assert shut.status_code == 500 and str(settings.keys_log) not in shut.text
        assert "nobody is let in before it is fixed" in server.log.read_text()
        assert server.client.get("/healthz").status_code == 200
