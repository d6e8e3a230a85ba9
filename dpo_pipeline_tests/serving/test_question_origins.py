"""Questions from the bank, from production and from the edge cases, drawn by a real server."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest

from dpo_pipeline.core.questions import is_held_out
from dpo_pipeline.loop.ingest import ingest
from dpo_pipeline.ml.base_model import locate_base
from dpo_pipeline.settings import QualityCriteria, Settings
from dpo_pipeline.stores.bank import read_bank, read_edge_cases
from dpo_pipeline.stores.warehouse import Warehouse, prepare
from dpo_pipeline_tests.programs_under_test import Server, serving
from dpo_pipeline_tests.serving.conftest import VARIABLES, beside

pytestmark = pytest.mark.slow
ASKED, STORED = "Can you write to bob@example.org for me?", "Can you write to [e-mail] for me?"


@pytest.fixture(scope="module")
def server(own_project: Settings) -> Iterator[Server]:
    with serving(own_project.data_dir, **VARIABLES) as running:
        yield running


def draw(server: Server, origin: str, **asked: str) -> tuple[str, str]:
    answer = server.client.get("/v1/comparisons/next", params={"annotator": "ann", "origin": origin, **asked})
    assert answer.status_code == 201, answer.text
    return answer.json()["prompt"], answer.json()["category"]


def chat(server: Server, *contents: str) -> None:
    roles = ("user", "assistant")
    messages = [{"role": roles[turn % 2], "content": content} for turn, content in enumerate(contents)]
    body = {"model": "chat", "user": "bob", "messages": messages, "max_tokens": 4}
    server.client.post("/v1/chat/completions", json=body).raise_for_status()


@pytest.mark.nightly
def test_a_pair_decided_before_is_shown_again_with_its_sides_swapped(own_project: Settings, tmp_path: Path) -> None:
    """Once to the same person, who again chooses the left: one flip. Nobody asks for production's questions twice."""
    repeating = {"DPO_COLLECTION__REPEAT_SHARE": "0.999", "DPO_COLLECTION__REPEAT_AFTER_S": "0"}
    settings = beside(own_project)
    with serving(settings.data_dir, **VARIABLES | repeating) as server:

        def shown(origin: str) -> dict[str, Any]:
            answer = server.client.get("/v1/comparisons/next", params={"annotator": "again", "origin": origin})
            found: dict[str, Any] = answer.json()
            return found

        def choose_left(pair: dict[str, Any]) -> None:
            path = f"/v1/comparisons/{pair['comparison_id']}/vote"
            server.client.post(path, json={"token": pair["token"], "vote": "left"}).raise_for_status()

        # Two answers that are the same text could not be told apart afterwards.
        first = next(pair for _ in range(50) if len(set((pair := shown("bank"))["answers"].values())) == 2)
        choose_left(first)
        assert shown("edge_case")["answers"] != first["answers"]
        second = shown("bank")
        assert (second["prompt"], second["comparison_id"] != first["comparison_id"]) == (first["prompt"], True)
        assert second["answers"] == {"left": first["answers"]["right"], "right": first["answers"]["left"]}
        choose_left(second)
    with duckdb.connect(tmp_path / "loop.duckdb") as connection:
        prepare(connection)
        warehouse = Warehouse(connection, settings.prefs_log)
        ingest(warehouse, tmp_path / "quarantine.jsonl", 1 << 20, QualityCriteria())
        [flip], several = warehouse.second_looks()
    assert sorted(flip) == ["a", "b"] and several == []


def test_a_question_comes_from_where_it_is_asked_for(server: Server, own_project: Settings) -> None:
    share = own_project.collection.holdout_share
    bank = {question.question: question for question in read_bank(own_project.bank_dir)}
    cases = {case.question: case.category for case in read_edge_cases(own_project.bank_dir)}
    assert draw(server, "production")[0] in bank, "nobody has asked anything: the bank stands in"

    known = next(question for question in bank.values() if not is_held_out(question.question, share))
    held_out = next(question for question in bank.values() if is_held_out(question.question, share))
    assert not is_held_out(STORED, share)
    for contents in (
        (ASKED,), (known.question,), (held_out.question,),
        ("Hello there", "Hello.", "And what about the evening?"),
    ):  # fmt: skip
        chat(server, *contents)
    expected = {(STORED, "other"), (known.question, known.category)}
    time.sleep(1)  # requests are written behind
    found = {draw(server, "production") for _ in range(20)}
    assert found == expected

    for _ in range(10):
        prompt, category = draw(server, "edge_case")
        assert cases[prompt] == category and not is_held_out(prompt, share)
        assert draw(server, "bank")[0] in bank
    assert draw(server, "edge_case", category="creative")[1] == "creative"
    assert {draw(server, "mix", category="comparison")[1] for _ in range(5)} == {"comparison"}
    refused = server.client.get("/v1/comparisons/next", params={"origin": "elsewhere"})
    assert refused.status_code == 400 and "origin" in refused.json()["error"]["message"]


def test_every_edge_case_leaves_the_tiny_model_room_for_an_answer(own_project: Settings) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(locate_base(own_project).directory)
    for case in read_edge_cases(own_project.bank_dir):
        messages = [{"role": "user", "content": case.question}]
        text = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        pieces = len(tokenizer(text, add_special_tokens=False)["input_ids"])
        assert pieces <= 160 - 24, (pieces, case.question)
