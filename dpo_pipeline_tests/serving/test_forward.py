"""The second engine: answers come from another server, a real one on loopback."""

import json
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from dpo_pipeline.core.serving_records import RequestRecord
from dpo_pipeline.settings import Settings
from dpo_pipeline.stores.serving_log import read_records
from dpo_pipeline_tests.programs_under_test import Server, eventually, serving
from dpo_pipeline_tests.serving.conftest import VARIABLES, beside
from dpo_pipeline_tests.upstream import model_server

pytestmark = pytest.mark.slow
CHAT = "/v1/chat/completions"
BODY = {"model": "v1.1", "messages": [{"role": "user", "content": "Why is the sky blue?"}], "temperature": 0}


@pytest.fixture(scope="module")
def behind(own_project: Settings) -> Iterator[Server]:
    """The server that generates, open to those who know its key."""
    with serving(own_project.data_dir, **VARIABLES, DPO_KEYS__API="behind-the-scenes") as running:
        yield running


@pytest.fixture(scope="module")
def front(own_project: Settings, behind: Server) -> Iterator[Server]:
    """The server that forwards to it; v1.1 is called v1.0 over there."""
    variables = {
        "DPO_ENGINE__KIND": "forward",
        "DPO_ENGINE__URL": f"{behind.url}/v1",
        "DPO_ENGINE__NAMES": json.dumps({"v1.1": "v1.0"}),
        "DPO_KEYS__ENGINE": "behind-the-scenes",
        "DPO_LIMITS__DEADLINE_S": "5",
    }
    with serving(beside(own_project).data_dir, **VARIABLES, **variables) as running:
        yield running


def test_versions_map_to_model_names(front: Server, behind: Server) -> None:
    ours = front.client.post(CHAT, json=BODY).json()
    key = {"Authorization": "Bearer behind-the-scenes"}
    theirs = behind.client.post(CHAT, json=BODY | {"model": "v1.0"}, headers=key).json()
    assert ours["model"] == "v1.1" and ours["usage"] == theirs["usage"]
    assert ours["choices"][0]["message"] == theirs["choices"][0]["message"]


def test_streams_are_passed_on(front: Server) -> None:
    import openai

    client = openai.OpenAI(base_url=f"{front.url}/v1", api_key="none")
    chunks = client.chat.completions.create(**BODY, stream=True)  # type: ignore[call-overload]
    texts = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
    whole = front.client.post(CHAT, json=BODY).json()["choices"][0]["message"]["content"]
    assert "".join(texts) == whole and len(texts) > 3
    client.close()


def test_comparisons_and_votes_work_over_it(front: Server) -> None:
    asked = {"prompt": "Why is the sky blue?", "models": ["v1.0", "v1.1"]}
    shown = front.client.post("/v1/comparisons", json=asked).json()
    path = f"/v1/comparisons/{shown['comparison_id']}/vote"
    voted = front.client.post(path, json={"token": shown["token"], "vote": "tie"}).json()
    assert set(voted["models"].values()) == {"v1.0", "v1.1"}


def test_a_refusal_over_there_is_told_here(front: Server) -> None:
    answer = front.client.post(CHAT, json=BODY | {"messages": [{"role": "user", "content": "word " * 3000}]})
    assert answer.status_code == 400 and "at most 159 fit" in answer.json()["error"]["message"]


def test_when_the_other_server_is_gone_the_error_says_so_and_votes_still_work(front: Server, behind: Server) -> None:
    shown = front.client.post("/v1/comparisons", json={"prompt": "Why is the sky blue?"}).json()
    behind.kill()
    try:
        answer = front.client.post(CHAT, json=BODY)
        assert answer.status_code == 502 and "Start that server or fix engine.url" in answer.json()["error"]["message"]
        path = f"/v1/comparisons/{shown['comparison_id']}/vote"
        assert front.client.post(path, json={"token": shown["token"], "vote": "left"}).status_code == 201
    finally:
        behind.start()


@contextmanager
def before(settings: Settings, url: str) -> Iterator[Server]:
    """A server that forwards to this address."""
    forwarding = {"DPO_ENGINE__KIND": "forward", "DPO_ENGINE__URL": url, "DPO_LIMITS__DEADLINE_S": "5"}
    with serving(settings.data_dir, **VARIABLES, **forwarding) as running:
        yield running


def outcomes(settings: Settings) -> list[str]:
    records = read_records(settings.serving_log_dir, "2026-01-01T00:00:00Z")
    return [record.outcome for record in records if isinstance(record, RequestRecord)]


def test_half_an_answer_is_an_error_in_the_stream_and_never_shown_for_votes(own_project: Settings) -> None:
    settings = beside(own_project)
    with model_server() as other, before(settings, other.url) as front:
        other.cut_off = True
        with front.client.stream("POST", CHAT, json=BODY | {"stream": True}) as streamed:
            assert streamed.status_code == 200
            *chunks, last = [line for line in streamed.iter_lines() if line]
        assert last == "data: [DONE]" and json.loads(chunks[-1].removeprefix("data: "))["error"]["code"] == (
            "upstream_failed"
        )
        shown = front.client.post("/v1/comparisons", json={"prompt": "Why is the sky blue?"})
        assert (shown.status_code, shown.json()["error"]["code"]) == (502, "upstream_failed")
        found = eventually(lambda: outcomes(settings)[-1:], lambda found: found == ["engine_error"], seconds=10)
        assert found == ["engine_error"]


def test_a_version_that_the_other_server_does_not_know_is_not_the_clients_fault(own_project: Settings) -> None:
    settings = beside(own_project)
    with model_server() as other, before(settings, other.url) as front:
        other.status = 404
        answer = front.client.post(CHAT, json=BODY)
        assert answer.status_code == 502 and "engine.names" in answer.json()["error"]["message"]
        found = eventually(lambda: outcomes(settings)[-1:], lambda found: found == ["engine_error"], seconds=10)
        assert found == ["engine_error"]
