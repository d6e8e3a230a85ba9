"""The engine under a real server: shared batches, streams, cancelling, limits, a killed and a hung process."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import psutil
import pytest

from dpo_pipeline.settings import Settings
from dpo_pipeline.stores.ledger import Ledger
from dpo_pipeline_tests.programs_under_test import Server, eventually, serving
from dpo_pipeline_tests.serving.conftest import VARIABLES, beside

pytestmark = pytest.mark.slow
QUESTION = "Why is the sky blue?"
CHAT = "/v1/chat/completions"


def body(**fields: Any) -> dict[str, Any]:
    return {"model": "v1.0", "messages": [{"role": "user", "content": QUESTION}], **fields}


def generating_process(server: Server) -> psutil.Process:
    """The server's child that holds the model."""
    children = psutil.Process(server.pid).children()
    return max(children, key=lambda child: child.memory_info().rss)


@pytest.fixture(scope="module")
def server(own_project: Settings) -> Iterator[Server]:
    with serving(own_project.data_dir, **VARIABLES) as running:
        yield running


@pytest.fixture(scope="module")
def narrow_project(own_project: Settings) -> Settings:
    return beside(own_project)


@pytest.fixture(scope="module")
def narrow(narrow_project: Settings) -> Iterator[Server]:
    """One answer at a time, two may wait, and 4 s for each."""
    limits = {"DPO_LIMITS__BATCH": "1", "DPO_LIMITS__QUEUE": "2", "DPO_LIMITS__DEADLINE_S": "4"}
    with serving(narrow_project.data_dir, **VARIABLES, **limits) as running:
        yield running


def test_the_openai_client_streams_token_by_token(server: Server) -> None:
    import openai

    client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="none")
    messages: Any = [{"role": "user", "content": [{"type": "text", "text": QUESTION}]}]
    options: Any = {"temperature": 0, "seed": 1}
    chunks = list(
        client.chat.completions.create(
            model="v1.0", messages=messages, stream=True, stream_options={"include_usage": True}, **options
        )
    )
    whole = client.chat.completions.create(model="v1.0", messages=messages, **options)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole.choices[0].message.content and len(chunks) > 4
    assert len({chunk.id for chunk in chunks}) == 1 and chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-1].usage and whole.usage and chunks[-1].usage.total_tokens == whole.usage.total_tokens
    rated = server.client.post("/v1/feedback", json={"request_id": chunks[0].id, "thumb": "up"})
    assert rated.status_code == 201
    client.close()


def test_what_fails_before_the_first_token_has_a_status(server: Server) -> None:
    answer = server.client.post(
        CHAT, json=body(stream=True) | {"messages": [{"role": "user", "content": "word " * 3000}]}
    )
    assert answer.status_code == 400 and "at most 159 fit" in answer.json()["error"]["message"]


def test_versions_share_a_batch_and_each_reply_is_of_its_version(server: Server) -> None:
    """Greedy, so that a version's answer is its own: together they say what each said alone."""

    def said(name: str) -> str:
        answer = server.client.post(CHAT, json=body(temperature=0) | {"model": name}).json()
        assert answer["model"] == name
        return str(answer["choices"][0]["message"]["content"])

    alone = {name: said(name) for name in ("v1.0", "v1.1")}
    assert alone["v1.0"] != alone["v1.1"]
    with ThreadPoolExecutor(16) as pool:
        names = ["v1.0", "v1.1"] * 12
        assert list(pool.map(said, names)) == [alone[name] for name in names]


def test_many_versions_are_compared_pair_by_pair(server: Server) -> None:
    asked = {"prompt": QUESTION, "models": ["v1.0", "v1.1", "v1.0"], "annotator": "many"}
    shown = server.client.post("/v1/comparisons", json=asked).json()
    pairs = [shown, *shown["more"]]
    assert len({pair["comparison_id"] for pair in pairs}) == 3
    for pair in pairs:
        path = f"/v1/comparisons/{pair['comparison_id']}/vote"
        assert server.client.post(path, json={"token": pair["token"], "vote": "tie"}).status_code == 201


def test_a_full_queue_says_when_to_come_back_and_votes_pass_by(narrow: Server) -> None:
    shown = narrow.client.post("/v1/comparisons", json={"prompt": QUESTION, "annotator": "queue"}).json()
    signal_process(narrow, signal.SIGSTOP)
    try:
        with ThreadPoolExecutor(8) as pool:
            asked = [pool.submit(narrow.client.post, CHAT, json=body(user=f"u{i}")) for i in range(8)]
            time.sleep(1.0)
            path = f"/v1/comparisons/{shown['comparison_id']}/vote"
            voted = narrow.client.post(path, json={"token": shown["token"], "vote": "left"}, timeout=5)
            assert voted.status_code == 201
            signal_process(narrow, signal.SIGCONT)
            answers = [one.result() for one in asked]
    finally:
        signal_process(narrow, signal.SIGCONT)
    refused = [answer for answer in answers if answer.status_code == 429]
    assert len(refused) == 5 and all(answer.headers["retry-after"] for answer in refused)
    assert {answer.status_code for answer in answers} == {200, 429}


def test_a_cancelled_request_frees_its_place(narrow: Server) -> None:
    """With one place, an answer that nobody reads any more must not hold up the next."""

    async def leave_early() -> None:
        async with httpx.AsyncClient(base_url=narrow.url) as client:
            for stream in (True, False):
                with pytest.raises(httpx.ReadTimeout):
                    await client.post(CHAT, json=body(stream=stream), timeout=0.3)

    signal_process(narrow, signal.SIGSTOP)
    try:
        asyncio.run(leave_early())
        assert metric(narrow, "dpo_engine_waiting") + metric(narrow, "dpo_engine_running") == 0
    finally:
        signal_process(narrow, signal.SIGCONT)
    assert narrow.client.post(CHAT, json=body()).status_code == 200


def test_a_killed_generating_process_is_started_again(server: Server) -> None:
    generating_process(server).send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 60
    while (answer := server.client.post(CHAT, json=body())).status_code != 200:
        assert answer.status_code in (500, 503), answer.text
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_a_hung_version_is_an_error_after_its_deadline(narrow: Server, narrow_project: Settings) -> None:
    signal_process(narrow, signal.SIGSTOP)
    answer = narrow.client.post(CHAT, json=body(user="hung"))
    assert (answer.status_code, answer.json()["error"]["code"]) == (504, "deadline_exceeded")
    outcomes = eventually(lambda: logged_outcomes(narrow_project), lambda found: "timeout" in found)
    assert "timeout" in outcomes
    deadline = time.monotonic() + 60
    while narrow.client.post(CHAT, json=body()).status_code != 200:
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_a_version_is_taken_back_while_the_generating_process_hangs(own_project: Settings) -> None:
    """The route must not wait for the engine: nobody is sent to the version any more within five seconds."""
    settings = beside(own_project)
    with serving(settings.data_dir, **VARIABLES, DPO_KEYS__ADMIN="a-secret-of-the-project") as running:
        with Ledger(settings.ledger_address) as ledger:
            ledger.start_rollout("v1.1", ledger.deployment().epoch, ("test",), "test")
            ledger.promote("canary", ledger.deployment().epoch, ("test",), {}, "test")
        rollout = eventually(lambda: running.client.get("/v1/rollout").json(), lambda found: found["traffic"] == 0.05)
        assert rollout["version"] == "v1.1"
        signal_process(running, signal.SIGSTOP)
        try:
            given = time.monotonic()
            headers = {"X-Admin-Key": "a-secret-of-the-project"}
            aborted = running.client.post("/v1/rollout/abort", json={"reason": "hangs"}, headers=headers)
            assert aborted.status_code == 200 and time.monotonic() - given < 5
            assert (aborted.json()["version"], aborted.json()["traffic"]) == (None, 0.0)
        finally:
            signal_process(running, signal.SIGCONT)
        answer = eventually(lambda: running.client.post(CHAT, json=body()), lambda found: found.status_code == 200, 60)
        assert answer.status_code == 200


def test_nothing_is_left_running_when_the_server_is_killed(own_project: Settings) -> None:
    with serving(beside(own_project).data_dir, **VARIABLES) as running:
        child = generating_process(running)
        running.kill()
        child.wait(timeout=20)


def logged_outcomes(settings: Settings) -> set[str]:
    logged = "".join(path.read_text() for path in settings.serving_log_dir.glob("*.jsonl"))
    return {json.loads(line).get("outcome") for line in logged.splitlines()}


def signal_process(server: Server, which: int) -> None:
    os.kill(generating_process(server).pid, which)


def metric(server: Server, name: str) -> float:
    lines = server.client.get("/metrics").text.splitlines()
    return float(next(line for line in lines if line.startswith(name + " ")).split()[-1])


def test_a_second_server_on_the_same_folder_is_refused(server: Server, own_project: Settings) -> None:
    """It would take the opposite of a vote that the first one acknowledged."""
    command = [sys.executable, "-m", "dpo_pipeline.cli", "serve"]
    variables = {**os.environ, **VARIABLES, "DPO_DATA_DIR": str(own_project.data_dir)}
    done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1 and "two would take two opposite votes" in done.stderr
    assert server.client.get("/healthz").status_code == 200
