"""Serving as a real process: comparisons, votes, kills, the rollout. Uses the trained project of the ml tests."""

import json
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
import psutil
import pytest

from dpo_pipeline.core.exposure import NO_AUDIENCE, RolloutPlan, gets_challenger
from dpo_pipeline.core.serving_records import RequestRecord
from dpo_pipeline.core.version_metrics import version_metrics
from dpo_pipeline.core.votes import VoteReason, decode_preference
from dpo_pipeline.settings import Settings
from dpo_pipeline.stores.ledger import Ledger, utc_now
from dpo_pipeline.stores.serving_log import read_records
from dpo_pipeline_tests.examples import put_version
from dpo_pipeline_tests.programs_under_test import Server, eventually, serving
from dpo_pipeline_tests.serving.conftest import VARIABLES

pytestmark = pytest.mark.slow
QUESTION = "Why is the sky blue?"


@pytest.fixture(scope="module")
def server(own_project: Settings) -> Iterator[Server]:
    with serving(own_project.data_dir, **VARIABLES) as running:
        yield running


def log_lines(settings: Settings) -> list[Any]:
    log = settings.prefs_log
    return [decode_preference(line) for line in log.read_bytes().split(b"\n")[:-1]] if log.exists() else []


def compare(server: Server, **fields: Any) -> dict[str, Any]:
    answer = server.client.post("/v1/comparisons", json={"prompt": QUESTION, "annotator": "ann", **fields})
    assert answer.status_code == 201, answer.text
    body: dict[str, Any] = answer.json()
    return body


def vote(server: Server, shown: dict[str, Any], choice: str = "left", **fields: Any) -> Any:
    path = f"/v1/comparisons/{shown['comparison_id']}/vote"
    return server.client.post(path, json={"token": shown["token"], "vote": choice, **fields})


def test_a_vote_is_on_disk_when_it_is_acknowledged(server: Server, own_project: Settings) -> None:
    shown = compare(server, category="explanation", session_id="visit-1")
    assert set(shown) == {"comparison_id", "token", "prompt", "category", "answers", "expires_at", "more"}
    answer = vote(server, shown, "right")
    assert answer.status_code == 201
    event = next(e for e in log_lines(own_project) if e.event_id == answer.json()["event_id"])
    assert event.chosen == shown["answers"]["right"] and event.rejected == shown["answers"]["left"]
    assert event.category == "explanation" and event.session_id == "visit-1" and event.source == "api"
    assert event.annotator != "ann" and len(event.annotator) == 16
    assert event.sampling.max_tokens == 24 and event.sampling.seed is not None


def test_a_vote_on_a_conversation_is_acknowledged_too(server: Server, own_project: Settings) -> None:
    conversation = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "hello"},
        {"role": "user", "content": QUESTION},
    ]
    for choice in ("left", "tie"):
        shown = compare(server, prompt=conversation)
        first, again = vote(server, shown, choice), vote(server, shown, choice)
        assert (first.status_code, again.status_code) == (201, 200), first.text
        event = next(e for e in log_lines(own_project) if e.event_id == first.json()["event_id"])
        assert shown["prompt"] == conversation == msgspec.to_builtins(event.prompt)


def test_two_versions_answer_as_in_production_and_one_twice_warmer(server: Server, own_project: Settings) -> None:
    generation, collection = own_project.generation, own_project.collection
    assert generation.temperature < collection.temperature
    for models, usual in ((["v1.0", "v1.1"], generation), (["v1.1", "v1.1"], collection)):
        recorded = vote(server, compare(server, models=models)).json()["event_id"]
        event = next(each for each in log_lines(own_project) if each.event_id == recorded)
        assert (event.sampling.temperature, event.sampling.top_p) == (usual.temperature, usual.top_p)
    asked = vote(server, compare(server, models=["v1.0", "v1.1"], temperature=1.5)).json()["event_id"]
    assert next(each for each in log_lines(own_project) if each.event_id == asked).sampling.temperature == 1.5


def test_sides_are_blind_and_shuffled(server: Server) -> None:
    shown = [compare(server, models=["v1.0", "chat-v1.1"]) for _ in range(16)]
    assert not any("v1." in json.dumps({**row, "token": "", "answers": ""}) for row in shown)
    left = {vote(server, row, "tie").json()["models"]["left"] for row in shown}
    assert left == {"v1.0", "v1.1"}


def test_the_same_vote_again_is_the_same_event_and_another_is_refused(server: Server, own_project: Settings) -> None:
    shown = compare(server)
    first, again, other = vote(server, shown), vote(server, shown), vote(server, shown, "right")
    assert (first.status_code, again.status_code, other.status_code) == (201, 200, 409)
    assert first.json() == again.json()
    assert other.json()["error"]["code"] == "already_voted"
    assert sum(e.comparison_id == shown["comparison_id"] for e in log_lines(own_project)) == 1


def test_a_vote_may_say_why(server: Server, own_project: Settings) -> None:
    tags, reason = ["clear", "accurate", "clear"], " cites a source, unlike anna@example.com "
    tie = vote(server, compare(server), "tie", strength="much")
    assert tie.status_code == 400 and "what one answer has over the other" in tie.text
    assert vote(server, compare(server), strength="enormously").status_code == 400
    assert vote(server, compare(server), reason="x" * 501).status_code == 400
    shown = compare(server)
    told = vote(server, shown, strength="slightly", reason_tags=tags, reason=reason)
    assert (told.status_code, vote(server, shown).status_code) == (201, 200)
    [event] = [each for each in log_lines(own_project) if each.comparison_id == shown["comparison_id"]]
    assert event.why == VoteReason("slightly", ("clear", "accurate"), "cites a source, unlike [e-mail]")


def test_a_hundred_sends_at_once_are_one_vote(server: Server, own_project: Settings) -> None:
    shown = compare(server)
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda _: vote(server, shown), range(100)))
    assert sorted({answer.status_code for answer in answers}) == [200, 201]
    assert len({answer.json()["event_id"] for answer in answers}) == 1
    assert sum(e.comparison_id == shown["comparison_id"] for e in log_lines(own_project)) == 1


def test_of_a_hundred_opposite_votes_at_once_one_is_recorded(server: Server, own_project: Settings) -> None:
    shown = compare(server)
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda number: vote(server, shown, ("left", "right")[number % 2]), range(100)))
    counted = Counter(answer.status_code for answer in answers)
    assert counted[201] == 1 and counted[409] == 50 and counted[200] == 49
    assert sum(e.comparison_id == shown["comparison_id"] for e in log_lines(own_project)) == 1


def test_tokens_are_bound_to_comparison_and_person(server: Server, own_project: Settings) -> None:
    one, other = compare(server), compare(server, annotator="bob")
    before = len(log_lines(own_project))
    stolen = vote(server, one | {"token": other["token"]})
    token = one["token"]  # any three letters at its end would be the right ones once in 65,536 times
    forged = vote(server, one | {"token": token[:-2] + ("A" if token[-2] != "A" else "B") + token[-1]})
    somebody = vote(server, one, annotator="bob")
    unknown = vote(server, one | {"comparison_id": "cmp-0"})
    assert [a.status_code for a in (stolen, forged, somebody, unknown)] == [403, 403, 403, 404]
    assert all(answer.json()["error"]["message"] for answer in (stolen, forged, somebody, unknown))
    assert len(log_lines(own_project)) == before


@pytest.mark.parametrize(
    ("change", "status", "told"),
    [
        ({"models": ["v1.0", "v9.9"]}, 404, "'v9.9' is not served"),
        ({"prompt": ""}, 400, "prompt"),
        ({"prompt": "word " * 3000}, 400, "at most 159 fit"),
        ({"category": "weather"}, 400, "category"),
        ({"temperature": 9}, 400, "temperature"),
        ({"vote": "left"}, 400, "Extra inputs"),
    ],
)
def test_bad_requests_are_answered_with_the_reason(
    server: Server, change: dict[str, Any], status: int, told: str
) -> None:
    answer = server.client.post("/v1/comparisons", json={"prompt": QUESTION, **change})
    assert answer.status_code == status
    assert told in answer.json()["error"]["message"]


def test_an_unknown_vote_kind_is_refused(server: Server, own_project: Settings) -> None:
    before = len(log_lines(own_project))
    assert vote(server, compare(server), "maybe").status_code == 400
    assert len(log_lines(own_project)) == before


def test_the_server_draws_questions_over_the_categories(server: Server) -> None:
    seen = set()
    for _ in range(6):
        shown = server.client.get("/v1/comparisons/next", params={"annotator": "ann", "source": "simulated"}).json()
        seen.add(shown["category"])
        assert vote(server, shown, "both_bad").status_code == 201
    assert len(seen) >= 4


def test_the_real_openai_client_works_unchanged(server: Server, own_project: Settings) -> None:
    import openai

    client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="none")
    assert [model.id for model in client.models.list().data] == ["chat", "v1.0", "v1.1"]
    answer = client.chat.completions.create(
        model="chat", messages=[{"role": "user", "content": QUESTION}], user="ann", max_tokens=8
    )
    assert answer.model == "v1.0" and answer.usage and answer.usage.completion_tokens <= 8
    with pytest.raises(openai.NotFoundError, match="is not served"):
        client.chat.completions.create(model="gpt-0", messages=[{"role": "user", "content": "hi"}])
    client.close()
    feedback = server.client.post("/v1/feedback", json={"request_id": answer.id, "rating": 4})
    assert feedback.status_code == 201
    metrics = eventually(
        lambda: version_metrics(read_records(own_project.serving_log_dir, "2026-01-01T00:00:00Z"), ["v1.0"])["v1.0"],
        lambda found: found.requests >= 1,
    )
    assert metrics.requests >= 1 and metrics.satisfaction == 4.0 and metrics.p99_ms


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"request_id": "chatcmpl-unknown", "rating": 4}, 404),
        ({"request_id": "x"}, 400),
        ({"request_id": "x", "rating": 4, "thumb": "up"}, 400),
        ({"request_id": "x", "rating": 6}, 400),
    ],
)
def test_bad_feedback(server: Server, body: dict[str, Any], status: int) -> None:
    assert server.client.post("/v1/feedback", json=body).status_code == status


def test_votes_around_kill_9(server: Server, own_project: Settings) -> None:
    """Acknowledged votes are there; a retry after the restart makes no second row; open ones can still be voted on."""
    voted, unvoted = compare(server), compare(server)
    acknowledged = vote(server, voted).json()["event_id"]
    server.kill()
    assert any(event.event_id == acknowledged for event in log_lines(own_project))
    server.start()
    again = vote(server, voted)
    assert (again.status_code, again.json()["event_id"]) == (200, acknowledged)
    assert vote(server, voted, "right").status_code == 409
    assert vote(server, unvoted).status_code == 201
    ids = [event.event_id for event in log_lines(own_project)]
    assert len(ids) == len(set(ids))


def test_serving_follows_the_ledger_within_seconds_and_people_stay_on_their_side(
    server: Server, own_project: Settings
) -> None:
    people = [f"person {i}" for i in range(60)]
    with Ledger(own_project.ledger_address) as ledger:
        put_version(ledger, "v1.1", status="registered")  # an earlier test rolled it back
        ledger.start_rollout("v1.1", ledger.deployment().epoch, ("test",), "test")
        for stage in ("canary", "small"):
            ledger.promote(stage, ledger.deployment().epoch, ("test",), {}, "test")
        moved = time.monotonic()
        while server.client.get("/v1/rollout").json()["stage"] != "small":
            assert time.monotonic() - moved < 5
            time.sleep(0.1)
        before = {person: model_for(server, person) for person in people}
        assert set(before.values()) == {"v1.0", "v1.1"}
        server.kill()
        server.start()
        assert {person: model_for(server, person) for person in people} == before
        command = [sys.executable, "-m", "dpo_pipeline.cli", "rollback", "--reason", "slow answers"]
        variables = os.environ | {"DPO_DATA_DIR": str(own_project.data_dir), "DPO_MLFLOW_URL": "http://127.0.0.1:9"}
        told = subprocess.run(command, env=variables, capture_output=True, text=True, check=True)
        assert "v1.1" in told.stdout and ledger.decisions("v1.1")[-1].reasons == ("slow answers",)
        moved = time.monotonic()
        while server.client.get("/v1/rollout").json()["version"] is not None:
            assert time.monotonic() - moved < 5
            time.sleep(0.1)
    assert {model_for(server, person) for person in people[:10]} == {"v1.0"}
    assert not gets_challenger("anybody", "v1.1", 0.0)


def test_in_staging_the_new_version_answers_copies_that_nobody_sees(server: Server, own_project: Settings) -> None:
    half = RolloutPlan(own_project.rollout, "person", NO_AUDIENCE, shadow_share=0.5)
    with Ledger(own_project.ledger_address) as ledger:
        put_version(ledger, "v1.1", status="registered")  # an earlier test rolled it back
        ledger.start_rollout("v1.1", ledger.deployment().epoch, ("test",), "test", half.to_json())
        eventually(lambda: server.client.get("/v1/rollout").json()["stage"], lambda stage: stage == "staging")
        begun = utc_now()
        assert {model_for(server, f"shadowed {number}") for number in range(40)} == {"v1.0"}

        def seen() -> list[RequestRecord]:
            found = read_records(own_project.serving_log_dir, begun)
            return [each for each in found if isinstance(each, RequestRecord) and each.shadow]

        copies = eventually(seen, lambda found: len(found) >= 5)
        assert len(copies) >= 5 and {(each.version, each.stage, each.outcome) for each in copies} == {
            ("v1.1", "staging", "ok")
        }
        assert version_metrics(read_records(own_project.serving_log_dir, begun), ["v1.1"])["v1.1"].requests == 0
        ledger.roll_back(ledger.deployment().epoch, ("test",), {}, "test")


def test_the_plan_in_the_ledger_says_what_is_assigned_and_how_much(server: Server, own_project: Settings) -> None:
    """By request, and another share of traffic than the settings have: the plan is what the rollout began with."""
    changed = own_project.rollout.small.model_copy(update={"traffic": 0.5})
    policy = own_project.rollout.model_copy(update={"small": changed})
    plan = RolloutPlan(policy, "request", NO_AUDIENCE, shadow_share=0.0)
    with Ledger(own_project.ledger_address) as ledger:
        put_version(ledger, "v1.1", status="registered")  # an earlier test rolled it back
        ledger.start_rollout("v1.1", ledger.deployment().epoch, ("test",), "test", plan.to_json())
        for stage in ("canary", "small"):
            ledger.promote(stage, ledger.deployment().epoch, ("test",), {}, "test")
        look = eventually(lambda: server.client.get("/v1/rollout").json(), lambda seen: seen["traffic"] == 0.5)
        assert (look["stage"], look["traffic"]) == ("small", 0.5)
        met = [model_for(server, "one person") for _ in range(40)]
        assert 8 <= met.count("v1.1") <= 32, "one person meets both"
        ledger.roll_back(ledger.deployment().epoch, ("test",), {}, "test")


def test_nobody_meets_a_version_that_was_just_taken_back(server: Server, own_project: Settings) -> None:
    """People ask all the time while a version comes and goes: whoever named none is answered."""
    over = threading.Event()

    def ask(number: int) -> list[tuple[int, str]]:
        met = []
        while not over.is_set():
            for path, body in (
                ("/v1/comparisons", {"prompt": QUESTION, "annotator": f"asker {number}"}),
                ("/v1/chat/completions", chat_body(f"asker {number}-{len(met)}")),
            ):
                answer = server.client.post(path, json=body)
                met.append((answer.status_code, answer.text))
        return met

    with Ledger(own_project.ledger_address) as ledger, ThreadPoolExecutor(24) as pool:
        asked = [pool.submit(ask, number) for number in range(24)]
        try:
            for _ in range(4):
                put_version(ledger, "v1.1", status="registered")
                ledger.start_rollout("v1.1", ledger.deployment().epoch, ("test",), "test")
                for stage in ("canary", "small"):
                    ledger.promote(stage, ledger.deployment().epoch, ("test",), {}, "test")
                eventually(lambda: server.client.get("/v1/rollout").json()["stage"], lambda stage: stage == "small")
                ledger.roll_back(ledger.deployment().epoch, ("test",), {}, "test")
                eventually(lambda: server.client.get("/v1/rollout").json()["version"], lambda version: version is None)
                gone = eventually(lambda: model_names(server), lambda names: "v1.1" not in names)
                assert gone == {"chat", "v1.0"}
        finally:
            over.set()
    met = [each for one in asked for each in one.result()]
    assert len(met) > 100 and [each for each in met if each[0] >= 300] == []


@pytest.mark.nightly
def test_a_load_test_measures_a_running_server_and_writes_a_page(server: Server, own_project: Settings) -> None:
    command = [sys.executable, "-m", "dpo_pipeline.cli", "loadtest", "--clients", "3", "--seconds", "3"]
    variables = {"DPO_DATA_DIR": str(own_project.data_dir), "DPO_PORTS__SERVING": server.url.rsplit(":", 1)[1]}
    done = subprocess.run(
        command, env={**os.environ, **variables}, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert "p99, ms" in done.stdout and "answered by v1.0" in done.stdout and "trouble" not in done.stdout
    page = (own_project.reports_dir / "loadtest.html").read_text()
    assert "<svg" in page and "answers a second" in page
    nowhere = {**os.environ, **variables, "DPO_PORTS__SERVING": "9"}
    nobody = subprocess.run([*command[:-1], "1"], env=nowhere, capture_output=True, text=True, check=False)
    assert nobody.returncode == 1 and "gave no answer" in nobody.stderr


def test_nothing_listens_beyond_loopback(server: Server) -> None:
    family = [psutil.Process(server.pid), *psutil.Process(server.pid).children(recursive=True)]
    listening = [
        place.laddr.ip for each in family for place in each.net_connections() if place.status == psutil.CONN_LISTEN
    ]
    assert listening and set(listening) == {"127.0.0.1"}


def test_votes_in_flight_when_the_server_is_killed(server: Server, own_project: Settings) -> None:
    """Forty people vote at once while the server dies: what was acknowledged is there, and everybody may send again."""
    shown = [compare(server) for _ in range(40)]
    with ThreadPoolExecutor(20) as pool:
        sent = [pool.submit(vote, server, one) for one in shown]
        eventually(lambda: sum(each.done() for each in sent), lambda done: done > 2)
        server.kill()
    acknowledged = [each.result().json()["event_id"] for each in sent if each.exception() is None]
    before = {event.event_id for event in log_lines(own_project)}
    assert acknowledged and before.issuperset(acknowledged)
    server.start()
    again = [vote(server, one) for one in shown]
    assert {answer.status_code for answer in again} <= {200, 201}
    ids = [event.event_id for event in log_lines(own_project)]
    assert len(ids) == len(set(ids)) and {answer.json()["event_id"] for answer in again} <= set(ids)


def chat_body(person: str) -> dict[str, Any]:
    return {"model": "chat", "user": person, "max_tokens": 2, "messages": [{"role": "user", "content": QUESTION}]}


def model_for(server: Server, person: str) -> str:
    answer: str = server.client.post("/v1/chat/completions", json=chat_body(person)).json()["model"]
    return answer


def model_names(server: Server) -> set[str]:
    return {model["id"] for model in server.client.get("/v1/models").json()["data"]}
