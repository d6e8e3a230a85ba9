"""A reload, a lost connection, a restart, a full disk and a second click take nothing from whoever is at the page."""

import resource
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from dpo_pipeline.core.votes import VoteReason
from dpo_pipeline.settings import Settings
from dpo_pipeline_tests.browser import Tab, choose
from dpo_pipeline_tests.programs_under_test import Server, eventually
from dpo_pipeline_tests.serving.ab_page.desk import DONE, answer, ask, counted, ready, text, votes
from dpo_pipeline_tests.upstream import Upstream

if TYPE_CHECKING:
    from playwright.sync_api import Route

pytestmark = [pytest.mark.slow, pytest.mark.browser]


def two_compared(desk: Tab) -> dict[str, str]:
    """Two versions picked by hand, on a question of one's own; the answers by side."""
    choose(desk.page, "#ab-first", "chat-v1.0")
    choose(desk.page, "#ab-second", "chat-v1.1")
    ask(desk, "Why do owls hoot?")
    return {side: answer(desk, side) for side in ("left", "right")}


def kept_as_when_it_was_the_home_page(desk: Tab) -> None:
    desk.page.wait_for_function("sessionStorage['dpo-draft:/compare'] === 'And why do'")
    desk.page.evaluate("""() => { for (const [key, kept] of Object.entries(sessionStorage)) {
        if (!key.endsWith(":/compare")) continue;
        sessionStorage.setItem(key.replace("compare", ""), kept);
        sessionStorage.removeItem(key);
    } }""")


def test_a_reload_keeps_the_pair_what_was_chosen_and_what_was_being_typed(desk: Tab, settings: Settings) -> None:
    shown, before = two_compared(desk), len(votes(settings))
    desk.page.fill("#ab-typed textarea", "And why do")
    kept_as_when_it_was_the_home_page(desk)
    desk.go(desk.page.url)
    ready(desk)
    assert {side: answer(desk, side) for side in shown} == shown and "Why do owls hoot?" in text(desk, "#ab-question")
    assert desk.page.input_value("#ab-first select") == "chat-v1.0"
    assert desk.page.input_value("#ab-second select") == "chat-v1.1"
    assert desk.page.input_value("#ab-typed textarea") == "And why do"
    desk.page.click("#ab-left")
    desk.page.wait_for_selector(DONE)
    [event] = votes(settings)[before:]
    assert (event.prompt, event.chosen) == ("Why do owls hoot?", shown["left"])
    result = text(desk, ".ab-result")
    desk.go(desk.page.url)
    desk.page.wait_for_selector(DONE)
    assert text(desk, ".ab-result") == result and len(votes(settings)) == before + 1
    desk.assert_clean()


def test_a_restart_of_the_server_keeps_them_too_and_a_vote_on_its_way_is_sent_again_once(
    desk: Tab, server: Server, settings: Settings
) -> None:
    shown, before = two_compared(desk), len(votes(settings))
    server.kill()
    desk.page.click("#ab-right")  # nobody is there to hear it
    desk.page.get_by_text("Connection").first.wait_for()
    # From here on Gradio does not even try to send what is pressed.
    desk.page.click("#ab-why button")
    desk.page.get_by_label("Much better").check()
    desk.page.get_by_label("More accurate").check()
    desk.page.fill("#ab-words textarea", "It says why.")
    desk.page.click("#ab-left")
    server.start()
    # Gradio opens the page again by itself once somebody answers.
    desk.page.locator("#ab-notice", has_text="Your vote was sent again").wait_for()
    desk.errors.clear()
    desk.page.wait_for_selector(DONE)
    assert {side: answer(desk, side) for side in shown} == shown and "Why do owls hoot?" in text(desk, "#ab-question")
    assert desk.page.input_value("#ab-first select") == "chat-v1.0"
    [event] = votes(settings)[before:]
    assert (event.chosen, event.why) == (shown["left"], VoteReason("much", ("accurate",), "It says why."))
    desk.page.wait_for_function("sessionStorage.getItem('dpo-unsent:/compare') === '[]'")
    result = text(desk, ".ab-result")
    desk.go(desk.page.url)
    desk.page.wait_for_selector(DONE)
    assert text(desk, ".ab-result") == result and len(votes(settings)) == before + 1


@pytest.mark.nightly
def test_a_question_that_was_being_answered_is_there_to_be_asked_again(
    desk: Tab, server: Server, models: Upstream
) -> None:
    models.say, models.word_s = counted, 0.5
    desk.page.fill("#ab-typed textarea", "Why do owls hoot?")
    desk.page.click("#ab-generate")
    desk.page.locator("#ab-card-left", has_text="one").wait_for()
    assert desk.page.input_value("#ab-typed textarea") == ""
    server.kill()
    server.start()
    # Gradio opens the page again by itself once somebody answers.
    desk.page.wait_for_function("document.querySelector('#ab-typed textarea')?.value === 'Why do owls hoot?'")
    desk.errors.clear()
    models.word_s = 0.0
    desk.page.click("#ab-generate")
    ready(desk)
    assert "Why do owls hoot?" in text(desk, "#ab-question")
    desk.assert_clean()


def test_a_click_after_a_restart_that_nobody_noticed_is_a_vote_on_what_is_on_screen(
    desk: Tab, server: Server, settings: Settings
) -> None:
    ask(desk, "Why do owls hoot?")
    shown, before = answer(desk, "left"), len(votes(settings))
    server.kill()
    server.start()
    desk.page.click("#ab-left")
    desk.page.wait_for_selector(DONE)
    [event] = votes(settings)[before:]
    assert (event.prompt, event.chosen) == ("Why do owls hoot?", shown)
    desk.errors.clear()


@pytest.mark.parametrize("in_session", [pytest.param(False, marks=pytest.mark.nightly), True])
def test_where_our_answer_to_a_vote_is_lost_the_next_click_shows_where_things_stand(
    desk: Tab, settings: Settings, in_session: bool
) -> None:
    if in_session:
        desk.page.click("#ab-start")
        ready(desk)
    else:
        ask(desk, "Why do owls hoot?")
    before = len(votes(settings))
    desk.page.route("**/run/predict*", lost)
    desk.page.keyboard.press("1")
    eventually(lambda: len(votes(settings)), lambda count: count == before + 1)
    desk.page.wait_for_timeout(500)
    desk.page.unroute("**/run/predict*")
    desk.page.keyboard.press("1")
    desk.page.locator("#ab-notice", has_text="Our last answer did not reach this page").wait_for()
    desk.errors.clear()
    assert len(votes(settings)) == before + 1, "nobody has seen what that would have been a vote on"
    if in_session:
        ready(desk)
        assert "2 of 10" in text(desk, "#ab-batch")
        shown = answer(desk, "left")
        desk.page.keyboard.press("1")
        desk.page.locator("#ab-batch", has_text="3 of 10").wait_for()
        assert votes(settings)[-1].chosen == shown
        desk.page.click("#ab-end")
    else:
        desk.page.wait_for_selector(DONE)
    desk.assert_clean()


def lost(route: "Route") -> None:
    """The server hears it, and a proxy before it says that it did not."""
    route.fetch()
    route.fulfill(status=502, body="<html>Bad gateway</html>", content_type="text/html")


@pytest.mark.nightly
def test_a_session_goes_on_after_a_restart_of_the_server(desk: Tab, server: Server, settings: Settings) -> None:
    choose(desk.page, "#ab-length", "5 questions")
    desk.page.click("#ab-start")
    for number in (1, 2):
        desk.page.locator("#ab-batch", has_text=f"{number} of 5").wait_for()
        ready(desk)
        desk.page.click("#ab-left")
    desk.page.locator("#ab-batch", has_text="3 of 5").wait_for()
    ready(desk)
    server.kill()
    server.start()
    desk.go(desk.page.url)
    for number in (3, 4, 5):
        desk.page.locator("#ab-batch", has_text=f"{number} of 5").wait_for()
        ready(desk)
        desk.page.click("#ab-right")
    desk.page.locator(".ab-summary", has_text="5 questions").wait_for()
    session = [each for each in votes(settings) if each.session_id == votes(settings)[-1].session_id]
    assert len(session) == 5
    chosen = Counter(each.chosen_model for each in session)
    for name, times in chosen.items():
        assert f"chat-{name} chosen {times} of 5" in text(desk, ".ab-summary")
    desk.errors.clear()


@pytest.mark.parametrize("apart_ms", [0, 150])
def test_a_double_click_is_one_vote(desk: Tab, settings: Settings, apart_ms: int) -> None:
    """The second click of two must not vote on the pair that the first one brought."""
    desk.page.click("#ab-start")
    ready(desk)
    before = len(votes(settings))
    desk.page.dblclick("#ab-left", delay=apart_ms // 2)
    desk.page.get_by_text("10 questions · 2 of 10").wait_for()
    desk.page.wait_for_timeout(500)
    assert len(votes(settings)) == before + 1
    desk.page.click("#ab-end")
    desk.page.get_by_text("Batch testing session finished: 1 questions").wait_for()


def test_a_second_press_takes_nothing_from_the_pair_that_is_being_written(
    desk: Tab, models: Upstream, settings: Settings
) -> None:
    models.say, models.word_s = counted, 0.2
    desk.page.click("#ab-start")
    ready(desk)
    before = len(votes(settings))
    desk.page.keyboard.press("1")
    desk.page.keyboard.press("1")  # the next pair takes 1.6 s
    desk.page.get_by_text("10 questions · 2 of 10").wait_for()
    ready(desk)
    assert len(votes(settings)) == before + 1 and answer(desk, "left") in (counted("v1.0", ""), counted("", ""))
    desk.page.click("#ab-end")


def test_a_full_disk_is_told_and_the_vote_can_be_sent_again(desk: Tab, server: Server, settings: Settings) -> None:
    desk.page.click("#ab-generate")
    ready(desk)
    desk.page.wait_for_timeout(300)
    before = len(votes(settings))
    unlimited = resource.prlimit(server.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (settings.prefs_log.stat().st_size, unlimited[1]))
    try:
        desk.page.keyboard.press("2")
        desk.page.get_by_text("Your vote is not recorded yet").wait_for()
        assert len(votes(settings)) == before
    finally:
        resource.prlimit(server.pid, resource.RLIMIT_FSIZE, unlimited)
    desk.page.keyboard.press("2")
    desk.page.wait_for_selector(DONE)
    assert len(votes(settings)) == before + 1
    assert text(desk, "#ab-notice") == ""
