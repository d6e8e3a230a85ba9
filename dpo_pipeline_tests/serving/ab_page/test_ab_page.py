"""The A/B page in a real browser, against a real server: what the person sees, and what is on disk after it.

Answers come from a second server that says what the test wants, so that nothing here waits for a model;
the last test uses a model of our own.
"""

import re
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from dpo_pipeline.core.questions import CATEGORIES, is_held_out
from dpo_pipeline.serving.pages.ab_view import PICKED
from dpo_pipeline.settings import Settings
from dpo_pipeline.stores.bank import read_bank, read_edge_cases
from dpo_pipeline_tests.browser import AUDITED, SCREENS, Tab, choose
from dpo_pipeline_tests.examples import settings_in
from dpo_pipeline_tests.programs_under_test import Server, serving
from dpo_pipeline_tests.serving.ab_page.desk import (
    DONE,
    READY,
    answer,
    at_desk,
    counted,
    install,
    ready,
    text,
    variables,
    votes,
)
from dpo_pipeline_tests.serving.conftest import WITH_PAGES
from dpo_pipeline_tests.upstream import Upstream

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = [pytest.mark.slow, pytest.mark.browser]
PAYLOAD = (
    '<img src=x onerror="window.hacked=1"> <svg onload="window.hacked=1"></svg> <script>window.hacked=1</script> '
    "[click](javascript:window.hacked=1) <a href='javascript:window.hacked=1'>x</a> ${window.hacked=1} {{value}} `"
)

# Keeps everything that the server streams to the page in `window.heard`.
OVERHEAR = """(() => {
  const ask = window.fetch;
  window.heard = "";
  window.fetch = async (...call) => {
    const response = await ask(...call);
    if (/run.predict|queue.data/.test(response.url)) (async () => {
      const reader = response.clone().body.getReader(), decoder = new TextDecoder();
      for (let part; !(part = await reader.read()).done;) window.heard += decoder.decode(part.value);
    })().catch(() => {});  // the page hung up
    return response;
  };
})()"""


def test_two_versions_picked_by_hand_are_compared_blind_and_revealed_by_the_vote(desk: Tab, settings: Settings) -> None:
    crumbs = desk.page.locator(".crumbs li").all_inner_texts()
    assert crumbs == ["Training & Experiments", "LLMOps Loop", "A/B Testing & Feedback Loop"]
    assert settings.access.consent in text(desk, ".consent")
    choose(desk.page, "#ab-first", "chat-v1.0")
    choose(desk.page, "#ab-second", "chat-v1.1")
    desk.page.fill("#ab-typed textarea", "Why do cats purr?")
    desk.page.click("#ab-generate")
    ready(desk)
    assert "Why do cats purr?" in text(desk, "#ab-question")
    assert {answer(desk, "left"), answer(desk, "right")} == {"Short.", "A longer answer. It has two sentences."}
    shown = {side: answer(desk, side) for side in ("left", "right")}
    assert not any("v1." in text(desk, f"#ab-card-{side}") for side in shown)

    before = len(votes(settings))
    desk.page.click("#ab-left")
    desk.page.wait_for_selector(DONE)
    [event] = votes(settings)[before:]
    assert (event.prompt, event.category, event.source) == ("Why do cats purr?", "other", "ui")
    assert event.chosen == shown["left"] and event.rejected == shown["right"]
    assert len(event.annotator) == 16 and event.session_id.startswith("visit-")
    chosen = f"You chose chat-{event.chosen_model} over chat-{event.rejected_model}."
    assert text(desk, ".ab-result") == f"{chosen} {PICKED}" and event.steered
    assert f"chat-{event.chosen_model}" in text(desk, "#ab-card-left")
    revealed = desk.page.locator("#ab-result, #ab-card-right").get_by_role("link", name=f"chat-{event.rejected_model}")
    addresses = [each.get_attribute("href") for each in revealed.all()]
    assert addresses == [f"/versions/{event.rejected_model}"] * 2
    assert "your choice" in text(desk, "#ab-card-left")
    assert f"Preferences collected today (UTC): {before + 1} / 100 target" in text(desk, "#ab-progress")


def test_every_key_does_what_its_button_does(desk: Tab, settings: Settings) -> None:
    keys = {"1": "left", "a": "left", "ArrowLeft": "left", "2": "right", "b": "right", "ArrowRight": "right"}
    desk.page.click("#ab-generate")
    for key, choice in {**keys, "t": "tie", "x": "both_bad"}.items():
        ready(desk)
        before = len(votes(settings))
        desk.page.keyboard.press(key)
        desk.page.wait_for_selector(DONE)
        [event] = votes(settings)[before:]
        left_is_a = event.left == "a"
        expected = {"left": "a" if left_is_a else "b", "right": "b" if left_is_a else "a"}.get(choice, choice)
        assert event.vote == expected, key
        desk.page.locator("body").press("Enter")
        desk.page.wait_for_selector(DONE, state="hidden")


def test_drawn_questions_cover_the_categories_in_turn(desk: Tab, settings: Settings) -> None:
    before = len(votes(settings))
    choose(desk.page, "#ab-origin", "Question bank")
    desk.page.click("#ab-generate")
    for _ in range(10):
        ready(desk)
        desk.page.keyboard.press("t")
        desk.page.wait_for_selector(DONE)
        desk.page.keyboard.press("Enter")
        desk.page.wait_for_selector(DONE, state="hidden")
    seen = [event.category for event in votes(settings)]
    counts = [seen.count(name) for name in CATEGORIES]
    assert max(counts) - min(counts) <= 2
    assert len({event.prompt for event in votes(settings)[before:]}) == 10
    bars = text(desk, ".ab-coverage").split()
    assert str(counts[0]) in bars


def test_letters_typed_into_the_question_are_no_votes(desk: Tab, settings: Settings) -> None:
    desk.page.click("#ab-generate")
    ready(desk)
    before = len(votes(settings))
    desk.page.click("#ab-typed textarea")
    desk.page.keyboard.type("a b t x 1 2")
    desk.page.wait_for_timeout(300)
    assert len(votes(settings)) == before
    assert desk.page.input_value("#ab-typed textarea") == "a b t x 1 2"


def test_answers_grow_on_screen_and_can_be_voted_on_only_when_whole(desk: Tab, models: Upstream) -> None:
    models.say, models.word_s = counted, 0.2
    desk.page.click("#ab-generate")
    seen = set()
    while not desk.page.query_selector(READY):
        seen.add(answer(desk, "left"))
        desk.page.wait_for_timeout(50)
    grown = [one for one in seen if one.startswith("one")]
    assert len(grown) >= 4
    assert all(counted("", "").startswith(one) or counted("v1.0", "").startswith(one) for one in grown)
    assert {answer(desk, "left"), answer(desk, "right")} == {counted("", ""), counted("v1.0", "")}


def test_the_next_pair_is_there_when_it_is_wanted(desk: Tab, models: Upstream, settings: Settings) -> None:
    """An answer takes 2 s here; what is on screen after a vote was asked while the person was reading."""
    models.say, models.word_s = counted, 0.25
    desk.page.click("#ab-generate")
    ready(desk)
    desk.page.wait_for_timeout(3500)  # the person reads
    desk.page.keyboard.press("1")
    desk.page.wait_for_selector(DONE)
    before, asked = text(desk, "#ab-question"), [question for _, question in models.asked]
    desk.page.keyboard.press("Enter")
    desk.page.wait_for_selector(READY)
    question = text(desk, "#ab-question")
    assert question != before and any(each in question for each in asked)


def test_a_batch_testing_session_counts_and_ends_with_a_summary(desk: Tab, settings: Settings) -> None:
    choose(desk.page, "#ab-first", "chat-v1.1")
    choose(desk.page, "#ab-second", "chat-v1.0")
    choose(desk.page, "#ab-length", "5 questions")
    before = len(votes(settings))
    desk.page.click("#ab-start")
    for number in range(1, 6):
        desk.page.get_by_text(f"Batch testing session: 5 questions · {number} of 5").wait_for()
        ready(desk)
        longer = max(("left", "right"), key=lambda side: len(answer(desk, side)))
        desk.page.keyboard.press("1" if longer == "left" else "2")
        desk.page.get_by_text("You chose chat-v1.1 over chat-v1.0.").wait_for()
    desk.page.get_by_text("Batch testing session finished: 5 questions").wait_for()
    assert "chat-v1.1 chosen 5 of 5" in text(desk, ".ab-summary")
    events = votes(settings)[before:]
    assert [event.chosen_model for event in events] == ["v1.1"] * 5
    assert len({event.session_id for event in events}) == 1 and events[0].session_id.startswith("batch-")


def test_what_a_model_or_a_person_writes_does_nothing(desk: Tab, models: Upstream) -> None:
    models.say = lambda model, question: PAYLOAD
    desk.page.fill("#ab-typed textarea", PAYLOAD)
    desk.page.click("#ab-generate")
    ready(desk)
    assert answer(desk, "left") == answer(desk, "right") == PAYLOAD
    assert PAYLOAD in text(desk, "#ab-question")
    assert desk.page.evaluate("window.hacked") is None
    for selector in ("#ab-card-left", "#ab-card-right", "#ab-question"):
        assert desk.page.locator(selector).locator("img, a, script, .ab-answer svg").count() == 0


def test_names_never_reach_the_browser_before_the_vote(browser: "Browser", server: Server) -> None:
    with at_desk(browser, server, script=OVERHEAR) as opened:
        opened.page.evaluate("window.heard = ''")
        opened.page.click("#ab-generate")
        ready(opened)
        heard = opened.page.evaluate("window.heard")
        assert answer(opened, "left") in heard
        assert "v1." not in heard


def test_a_full_queue_is_told_and_passes(desk: Tab, models: Upstream, settings: Settings) -> None:
    desk.page.click("#ab-generate")
    ready(desk)
    models.status = 429
    desk.page.keyboard.press("1")  # what was prepared before is still there
    desk.page.wait_for_selector(DONE)
    desk.page.keyboard.press("Enter")
    ready(desk)
    before = len(votes(settings))
    desk.page.keyboard.press("1")  # a vote is never behind the queue
    desk.page.wait_for_selector(DONE)
    assert len(votes(settings)) == before + 1
    desk.page.keyboard.press("Enter")
    desk.page.get_by_text("Too many questions are being answered right now").wait_for()
    models.status = 200
    desk.page.keyboard.press("Enter")
    ready(desk)
    assert desk.page.locator("#ab-notice p").count() == 0


def test_no_model_yet_and_an_expired_comparison_are_told(browser: "Browser", models: Upstream, tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    short = {**variables(models), "DPO_COLLECTION__TOKEN_VALID_H": "0.0005"}
    with serving(tmp_path, ready="/healthz", **short) as server, at_desk(browser, server) as opened:
        opened.page.click("#ab-generate")
        told = "Dagster starts and then tunes v1.0"
        opened.page.locator("#ab-notice").get_by_text(told).wait_for()
        opened.page.locator("#startup").get_by_text(told).wait_for()
        install(settings)
        server.wait_for("/readyz")
        opened.page.wait_for_selector("#startup", state="detached")
        opened.page.click("#ab-generate")
        ready(opened)
        opened.page.wait_for_timeout(4000)
        opened.page.keyboard.press("1")
        opened.page.get_by_text("This comparison can no longer be voted on").wait_for()
        assert votes(settings) == []
        opened.page.keyboard.press("Enter")
        opened.page.wait_for_selector(READY)
        opened.assert_clean()


def test_it_is_readable_on_every_screen(browser: "Browser", server: Server) -> None:
    with at_desk(browser, server) as opened:
        for width, scheme in SCREENS:
            opened.show_on(width, scheme)
            opened.assert_fits()
        opened.assert_accessible()
        choose(opened.page, "#ab-first", "chat-v1.0")
        choose(opened.page, "#ab-second", "chat-v1.1")
        choose(opened.page, "#ab-origin", "Question bank")
        opened.page.click("#ab-start")
        ready(opened)
        opened.page.keyboard.press("2")
        opened.page.get_by_text("2 of 10").wait_for()
        ready(opened)
        opened.page.mouse.move(0, 0)
        for width, scheme in SCREENS:
            opened.show_on(width, scheme)
            opened.assert_fits()
            if (width, scheme) in AUDITED:  # at the end of the page the bar lies over nothing, which axe could not tell
                opened.page.evaluate("scrollTo(0, document.body.scrollHeight)")
                opened.assert_accessible()
                opened.page.evaluate("scrollTo(0, 0)")
            if (width, scheme) == (1440, "light"):
                opened.picture("ab_test.png")
            if (width, scheme) == (390, "dark"):
                opened.page.evaluate("document.querySelector('.ab-question').scrollIntoView()")
                opened.picture("ab_test_mobile.png", whole=False)
            behind = opened.page.evaluate("getComputedStyle(document.body).backgroundColor")
            assert (behind == "rgb(255, 255, 255)") == (scheme == "light")
        opened.page.click("#ab-end")
        opened.page.click("#ab-why button")
        opened.assert_accessible()
        opened.page.click("#ab-left")
        opened.page.wait_for_selector(DONE)
        opened.assert_accessible()
        opened.assert_clean()


def test_the_whole_page_works_without_a_mouse(browser: "Browser", server: Server, settings: Settings) -> None:
    with at_desk(browser, server) as opened:
        for _ in range(30):
            opened.page.keyboard.press("Tab")
            if opened.page.evaluate("document.activeElement.closest('#ab-typed') !== null"):
                break
        opened.page.keyboard.type("Why is grass green?")
        opened.page.keyboard.press("Enter")
        ready(opened)
        before = len(votes(settings))
        opened.page.keyboard.press("1")
        opened.page.wait_for_selector(DONE)
        assert votes(settings)[before].prompt == "Why is grass green?"
        opened.page.keyboard.press("Enter")
        ready(opened)


def test_the_api_keeps_its_paths_and_the_gate_covers_the_pages(server: Server) -> None:
    assert all(
        server.client.get(path).status_code == 200 for path in ("/compare", "/docs", "/metrics", "/healthz", "/readyz")
    )
    assert server.client.delete("/v1/models").status_code == 405
    closed = ("upload", "run/handle", "proxy=http://127.0.0.1/", "file=/etc")
    for path in ("/v1/nothing", *(f"/gradio_api/{name}" for name in closed)):
        refused = server.client.post(path) if path.endswith(("upload", "handle")) else server.client.get(path)
        assert refused.status_code == 404 and refused.json()["error"]["code"] == "not_found", path
    body = {"data": [], "fn_index": 0, "session_hash": "abc"}
    queued = next(each["id"] for each in server.client.get("/config").json()["dependencies"] if each["queue"])
    past_the_queue = server.client.post("/gradio_api/run/predict", json=body | {"fn_index": queued})
    assert past_the_queue.status_code == 404 and "join the queue" in past_the_queue.text
    foreign = server.client.post("/gradio_api/queue/join", json=body, headers={"Origin": "https://evil.example"})
    assert foreign.status_code == 403 and foreign.json()["error"]["code"] == "foreign_origin"
    assert httpx.get(f"{server.url}/").text.count("gradio.app") <= 1  # a meta tag of Gradio's, never asked for
    assert server.client.get("/loop").headers["location"] == "/"
    for path, framed in (("/", "SAMEORIGIN"), ("/chat", "SAMEORIGIN"), ("/v1/models", "DENY"), ("/docs", "DENY")):
        told = server.client.get(path).headers
        assert (told["x-content-type-options"], told["x-frame-options"]) == ("nosniff", framed), path
        ancestors = "frame-ancestors 'self'" if framed == "SAMEORIGIN" else "frame-ancestors 'none'"
        assert ancestors in told["content-security-policy"], path
        assert told["referrer-policy"] == "same-origin", path
    assert "default-src 'self'" in server.client.get("/").headers["content-security-policy"]


def test_questions_come_from_where_the_person_wants_them(desk: Tab, server: Server, settings: Settings) -> None:
    bank = [question.question for question in read_bank(settings.bank_dir)]
    cases = [case.question for case in read_edge_cases(settings.bank_dir)]
    asked_in_chat = "Should I bring an umbrella to the harbour?"
    assert not is_held_out(asked_in_chat, settings.collection.holdout_share)

    def drawn(origin: str, told: str) -> list[str]:
        """The lines over and of the next question; what was prepared for another choice must not be shown."""
        choose(desk.page, "#ab-origin", origin)
        desk.page.click("#ab-generate")
        desk.page.locator("#ab-question", has_text=re.compile(told)).wait_for()
        ready(desk)
        desk.page.wait_for_timeout(300)  # the next one is being prepared
        return text(desk, "#ab-question").split("\n")

    _, _, alone = drawn("Production", "No production questions yet: this one is from the question bank.")
    assert alone in bank

    body = {"model": "chat", "user": "ann", "messages": [{"role": "user", "content": asked_in_chat}]}
    assert server.client.post("/v1/chat/completions", json=body).status_code == 200
    line, *edge = drawn("Edge cases", "Question · edge case · ")
    assert "\n".join(edge) in cases and line.startswith("Question")
    assert drawn("Production", "umbrella") == ["Question · production", asked_in_chat]
    line, usual = drawn("Question bank", "Question · (factual|comparison|creative|problem solving|explanation)")
    assert usual in bank

    desk.page.keyboard.press("t")
    desk.page.wait_for_selector(DONE)
    assert votes(settings)[-1].category in CATEGORIES


@pytest.mark.nightly
def test_twenty_votes_with_a_model_of_our_own(browser: "Browser", own_project: Settings) -> None:
    with serving(own_project.data_dir, **WITH_PAGES) as server, at_desk(browser, server) as opened:
        choose(opened.page, "#ab-length", "20 questions")
        opened.page.click("#ab-start")
        for number in range(20):
            opened.page.get_by_text(f"{number + 1} of 20").wait_for()
            ready(opened)
            opened.page.keyboard.press("12tx"[number % 4])
        opened.page.get_by_text("Batch testing session finished: 20 questions").wait_for()
        assert "Preferences collected today (UTC): 20 / 100 target" in text(opened, "#ab-progress")
        opened.assert_clean()
    assert len(votes(own_project)) == 20
