"""In staging, what people really ask is put before others: the champion's answer and the new version's shadow copy."""

import sqlite3
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import duckdb
import pytest

from dpo_pipeline.core.exposure import NO_AUDIENCE, RolloutPlan
from dpo_pipeline.core.votes import decode_preference
from dpo_pipeline.settings import Settings
from dpo_pipeline.stores.ledger import Ledger
from dpo_pipeline.stores.pseudonyms import pseudonym_of, signing_key
from dpo_pipeline.stores.serving_state import forget_person
from dpo_pipeline.stores.warehouse import Warehouse
from dpo_pipeline_tests.browser import choose
from dpo_pipeline_tests.examples import put_version, settings_in
from dpo_pipeline_tests.programs_under_test import Server, eventually, serving
from dpo_pipeline_tests.serving import collected
from dpo_pipeline_tests.serving.ab_page import desk
from dpo_pipeline_tests.upstream import Upstream

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.slow
ASKED = "How do I move a sleeping cat?"


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """v1.1 in staging over v1.0, every request copied."""
    settings = settings_in(tmp_path_factory.mktemp("ballots"))
    plan = RolloutPlan(settings.rollout, "person", NO_AUDIENCE, 1.0).to_json()
    with Ledger(settings.ledger_address) as ledger:
        for name in ("v1.0", "v1.1"):
            sha = name[-1] * 64
            put_version(ledger, name, status="registered", adapter_sha=sha, adapter_dir="there", parent=None)
        ledger.install_champion("v1.0", actor="test")
        ledger.start_rollout("v1.1", ledger.deployment().epoch, ("test",), "test", plan)
    return settings


@pytest.fixture(scope="module")
def server(settings: Settings, models: Upstream) -> Iterator[Server]:
    models.say, models.word_s, models.status = lambda model, asked: f"{model} says: gently.", 0.0, 200
    variables = {
        "DPO_ENGINE__KIND": "forward", "DPO_ENGINE__URL": models.url,
        "DPO_ROLLOUT__COUNT_UNPROVEN": "true", "DPO_COLLECTION__SHADOW_BALLOT_SHARE": "1",
    }  # fmt: skip
    with serving(settings.data_dir, **variables) as running:
        yield running


def ask(server: Server, settings: Settings, question: str) -> None:
    """Ada asks; the copy is kept a moment later."""
    before = kept(settings)
    body = {"model": "chat", "messages": [{"role": "user", "content": question}], "user": "Ada"}
    assert server.client.post("/v1/chat/completions", json=body).status_code == 200
    eventually(lambda: kept(settings), lambda found: found == before + 1)


def pseudonym(settings: Settings, name: str) -> str:
    return pseudonym_of(name, signing_key(settings))


def kept(settings: Settings) -> int:
    with sqlite3.connect(settings.serving_state) as database:
        return int(database.execute("select count(*) from ballots").fetchone()[0])


def compare(server: Server, person: str, origin: str = "production") -> dict[str, Any]:
    answer = server.client.get("/v1/comparisons/next", params={"annotator": person, "origin": origin})
    assert answer.status_code == 201, answer.text
    shown: dict[str, Any] = answer.json()
    return shown


def test_others_compare_the_two_answers_that_there_are_once(
    server: Server, settings: Settings, models: Upstream
) -> None:
    ask(server, settings, ASKED)
    generated = len(models.asked)
    assert compare(server, "Ada", "bank")["prompt"] != ASKED
    assert kept(settings) == 1, "whoever asked knows one of the answers"
    generated = len(models.asked)
    shown = compare(server, "Bob")
    assert shown["prompt"] == ASKED and len(models.asked) == generated, "nothing is generated again"
    assert {shown["answers"]["left"], shown["answers"]["right"]} == {"v1.0 says: gently.", "v1.1 says: gently."}
    assert kept(settings) == 0

    path = f"/v1/comparisons/{shown['comparison_id']}/vote"
    assert server.client.post(path, json={"token": shown["token"], "vote": "left"}).status_code == 201
    event = decode_preference(settings.prefs_log.read_bytes().splitlines()[-1])
    assert {event.model_a, event.model_b} == {"v1.0", "v1.1"} and not event.steered
    assert (event.prompt, event.asked_by, event.annotator) == (
        ASKED,
        pseudonym(settings, "Ada"),
        pseudonym(settings, "Bob"),
    )


def test_of_equal_answers_of_simulated_people_and_of_conversations_nothing_is_kept(
    server: Server, settings: Settings, models: Upstream
) -> None:
    say, copies = models.say, len([model for model, _ in models.asked if model == "v1.1"])
    models.say = lambda model, asked: "The same." if asked == "What is equal?" else say(model, asked)
    for question, source in (("What is equal?", "api"), ("Am I real?", "simulated")):
        body = {"model": "chat", "messages": [{"role": "user", "content": question}], "user": "Ada", "source": source}
        assert server.client.post("/v1/chat/completions", json=body).status_code == 200
    turns = [{"role": "system", "content": "Our secret."}, {"role": "user", "content": "And with a system turn?"}]
    assert server.client.post("/v1/chat/completions", json={"model": "chat", "messages": turns}).status_code == 200
    ask(server, settings, "And this one?")
    models.say = say
    copied = [asked for model, asked in models.asked if model == "v1.1"][copies:]
    assert (
        sorted(copied) == ["Am I real?", "And this one?", "And with a system turn?", "What is equal?"]
        and kept(settings) == 1
    )
    assert compare(server, "Bob")["prompt"] == "And this one?"


def test_who_is_forgotten_is_asked_about_no_more(server: Server, settings: Settings) -> None:
    ask(server, settings, "Where do I live?")
    forget_person(settings.serving_state, pseudonym(settings, "Ada"))
    assert kept(settings) == 0
    assert compare(server, "Bob")["prompt"] != "Where do I live?"


@pytest.mark.browser
def test_on_the_page_a_person_is_told_where_it_comes_from_votes_blind_and_decides_the_rollout(
    browser: "Browser", server: Server, settings: Settings
) -> None:
    """Only what is really asked in production is shown as such, and this vote counts in staging's A/B test."""
    question, before = "Which of my two cats is the older one?", kept(settings)
    ask(server, settings, question)
    with desk.at_desk(browser, server) as opened:
        assert "other people may be asked to compare answers to your questions" in desk.text(opened, ".consent")
        choose(opened.page, "#ab-origin", "Production")
        opened.page.click("#ab-generate")
        desk.ready(opened)
        assert desk.text(opened, "#ab-question").split("\n") == ["Question · production", question]
        assert kept(settings) == before, "its two answers were there"
        shown = {side: desk.answer(opened, side) for side in ("left", "right")}
        assert set(shown.values()) == {"v1.0 says: gently.", "v1.1 says: gently."}
        assert opened.page.locator(".ab-card .name").count() == 0
        opened.page.click("#ab-left")
        opened.page.wait_for_selector(desk.DONE)
        assert "v1." in desk.text(opened, "#ab-card-left .name"), "revealed by the vote"
        opened.assert_clean()
    event = desk.votes(settings)[-1]
    assert (event.prompt, event.source, event.steered) == (question, "ui", False)
    assert event.chosen == shown["left"] == f"{event.chosen_model} says: gently."
    assert event.asked_by == pseudonym(settings, "Ada") != event.annotator
    collected.curate(settings)
    with duckdb.connect(str(settings.warehouse_path), read_only=True) as connection:
        found = Warehouse(connection, settings.prefs_log).head_to_head("v1.1", "v1.0", count_unproven=True)
    assert (event.annotator, "win" if event.chosen_model == "v1.1" else "loss") in found
