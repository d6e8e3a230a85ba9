"""More than one bare vote: a conversation that goes on after it, why somebody voted so, and what to press when."""

import json
from typing import TYPE_CHECKING, Any

import pytest

from dpo_pipeline.core.votes import VoteReason
from dpo_pipeline.settings import Settings
from dpo_pipeline.stores.reviews import ReviewLog
from dpo_pipeline_tests.browser import Tab, primary
from dpo_pipeline_tests.programs_under_test import Server
from dpo_pipeline_tests.serving.ab_page.desk import DONE, answer, ask, at_desk, ready, text, votes
from dpo_pipeline_tests.upstream import Upstream

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = [pytest.mark.slow, pytest.mark.browser]
CARDS = ("#ab-card-left", "#ab-card-right")
FOLLOW = "#ab-follow textarea"


def vote(desk: Tab, button: str) -> None:
    desk.page.click(button)
    desk.page.wait_for_selector(DONE)


def follow_up(desk: Tab, question: str) -> None:
    desk.page.fill(FOLLOW, question)
    desk.page.press(FOLLOW, "Enter")
    ready(desk)


def test_a_conversation_goes_on_with_the_answer_that_won_and_every_turn_has_its_vote(
    desk: Tab, settings: Settings, models: Upstream
) -> None:
    before = len(votes(settings))
    assert not desk.page.is_visible(FOLLOW)
    ask(desk, "Why do cats purr?")
    won = answer(desk, "right")
    vote(desk, "#ab-right")
    follow_up(desk, "And dogs?")
    assert [text(desk, ".ab-turn.user"), text(desk, ".ab-turn.assistant")] == ["Why do cats purr?", won]
    assert "And dogs?" in text(desk, ".ab-question") and not desk.page.is_visible(FOLLOW)
    on_the_left = answer(desk, "left")
    vote(desk, "#ab-tie")
    follow_up(desk, "And both?")
    vote(desk, "#ab-both-bad")
    assert not desk.page.is_visible(FOLLOW), "there is no answer to go on from"

    said: list[dict[str, Any]] = [
        {"role": "user", "content": "Why do cats purr?"},
        {"role": "assistant", "content": won},
        {"role": "user", "content": "And dogs?"},
        {"role": "assistant", "content": on_the_left},
        {"role": "user", "content": "And both?"},
    ]
    first, second, third = votes(settings)[before:]
    assert first.prompt == "Why do cats purr?"
    assert [{"role": each.role, "content": each.content} for each in second.prompt] == said[:3]
    assert [{"role": each.role, "content": each.content} for each in third.prompt] == said
    assert {first.asked_by, second.asked_by, third.asked_by} == {first.annotator}


def test_a_follow_up_that_fails_can_be_asked_again(desk: Tab, settings: Settings, models: Upstream) -> None:
    before = len(votes(settings))
    ask(desk, "Why is the sky blue?")
    won = answer(desk, "left")
    vote(desk, "#ab-left")
    models.status = 500
    desk.page.fill(FOLLOW, "At night?")
    desk.page.click("#ab-go-on")
    desk.page.wait_for_selector("#ab-notice p")
    assert desk.page.input_value(FOLLOW) == "At night?"
    models.status = 200
    desk.page.click("#ab-go-on")
    ready(desk)
    vote(desk, "#ab-left")
    assert [each.content for each in votes(settings)[before + 1].prompt] == ["Why is the sky blue?", won, "At night?"]


@pytest.mark.parametrize("height", [660, 844])
def test_on_a_phone_question_answers_and_buttons_are_on_screen_at_once(
    browser: "Browser", server: Server, models: Upstream, height: int
) -> None:
    models.say = lambda model, asked: "A long answer. " * (200 if model == "v1.0" else 100)
    with at_desk(browser, server, width=390) as opened:
        opened.page.set_viewport_size({"width": 390, "height": height})
        ask(opened, "Why do cats purr?")
        all_on_screen(opened, height)
        vote(opened, "#ab-left")
        opened.page.get_by_role("button", name="That was a slip").wait_for()
        all_on_screen(opened, height)
        opened.page.click("#ab-next")
        ready(opened)
        all_on_screen(opened, height)
        opened.page.click("#ab-start")
        opened.page.locator("#ab-batch", has_text="1 of 10").wait_for()
        ready(opened)
        opened.page.click("#ab-right")
        opened.page.locator("#ab-batch", has_text="2 of 10").wait_for()
        ready(opened)
        all_on_screen(opened, height)
        opened.page.click("#ab-end")
        ask(opened, "Why do cats purr, and do lions? " * 12)
        all_on_screen(opened, height)
        opened.assert_fits()
        opened.assert_clean()


def test_on_a_phone_what_went_wrong_is_on_screen(browser: "Browser", server: Server, models: Upstream) -> None:
    with at_desk(browser, server, width=390) as opened:
        opened.page.set_viewport_size({"width": 390, "height": 660})
        ask(opened, "Why do cats purr?")
        models.status = 500
        opened.page.fill("#ab-typed textarea", "Why do dogs bark?")
        opened.page.click("#ab-generate")
        opened.page.wait_for_selector("#ab-notice p")
        opened.assert_on_screen("#ab-notice p")
        opened.assert_fits()


def all_on_screen(opened: Tab, height: int) -> None:
    """The question, both answers and the bar with what to press, one below the other."""
    opened.page.wait_for_timeout(300)
    boxes = {each: opened.page.locator(each).bounding_box() for each in (".ab-question", *CARDS, "#ab-bar")}
    edges = {name: (box["y"], box["y"] + box["height"]) for name, box in boxes.items() if box}
    assert len(edges) == 4 and edges["#ab-bar"][1] <= height + 1, edges
    assert edges[".ab-question"][0] >= 0 and edges[CARDS[1]][1] <= edges["#ab-bar"][0] + 1, edges


def test_strength_tags_and_words_go_into_the_log_with_the_vote(desk: Tab, settings: Settings) -> None:
    before = len(votes(settings))
    ask(desk, "Why do cats purr?")
    desk.page.click("#ab-why button")
    desk.page.get_by_label("Much better").check()
    desk.page.get_by_label("More accurate").check()
    desk.page.get_by_label("Clearer").check()
    desk.page.fill("#ab-words textarea", "  ask anna@example.com, she knows  ")
    vote(desk, "#ab-left")
    assert not desk.page.is_visible("#ab-why"), "it was said with the vote"
    assert desk.page.get_by_label("More accurate").is_checked() is False, "said of one vote only"
    assert desk.page.input_value("#ab-words textarea") == ""
    ask(desk, "Why do dogs bark?")
    desk.page.get_by_label("Slightly better").check()
    vote(desk, "#ab-tie")
    ask(desk, "Why do fish swim?")
    vote(desk, "#ab-left")
    explained, tie, bare = votes(settings)[before:]
    assert explained.why == VoteReason("much", ("accurate", "clear"), "ask [e-mail], she knows")
    assert tie.why == bare.why == VoteReason(), "nobody is better in a tie"
    line = json.loads(settings.prefs_log.read_bytes().splitlines()[-1])
    assert not {"strength", "reason_tags", "reason"} & line.keys()


def test_one_kind_of_button_at_a_time_is_the_one_to_press(desk: Tab, models: Upstream) -> None:
    assert primary(desk) == ["Generate Comparison"]
    models.word_s = 0.2
    desk.page.fill("#ab-typed textarea", "Why do cats purr?")
    desk.page.click("#ab-generate")
    desk.page.locator(".ab-card.growing").first.wait_for()
    assert primary(desk) == []
    models.word_s = 0.0
    ready(desk)
    assert primary(desk) == ["Select Model A", "Select Model B"]
    desk.page.keyboard.press("1")
    desk.page.wait_for_selector(DONE)
    assert primary(desk) == ["Next comparison"] and not desk.page.is_visible("#ab-left")
    desk.assert_accessible()


def test_a_pair_can_be_skipped_which_is_no_vote(desk: Tab, settings: Settings) -> None:
    assert desk.page.is_disabled("#ab-skip")
    before = len(votes(settings))
    desk.page.click("#ab-start")
    ready(desk)
    for press in ("#ab-skip", "s"):
        question = text(desk, "#ab-question")
        desk.page.click(press) if press.startswith("#") else desk.page.keyboard.press(press)
        desk.page.wait_for_function(
            "was => document.querySelector('#ab-question').innerText.trim() !== was", arg=question
        )
        ready(desk)
    assert "1 of 10" in text(desk, "#ab-batch") and len(votes(settings)) == before
    desk.page.click("#ab-end")
    desk.page.click("#ab-tie")
    desk.page.wait_for_selector(DONE)
    assert len(votes(settings)) == before + 1


def test_what_was_a_slip_is_taken_back_within_ten_seconds_and_counts_nowhere(desk: Tab, settings: Settings) -> None:
    ask(desk, "Why do cats purr?")
    today = text(desk, "#ab-progress b")
    vote(desk, "#ab-left")
    assert int(text(desk, "#ab-progress b").split()[0]) == int(today.split()[0]) + 1 and desk.page.is_visible(FOLLOW)
    desk.page.get_by_role("button", name="That was a slip").click()
    desk.page.get_by_text("Taken back: that vote counts nowhere").wait_for()
    desk.page.wait_for_selector(FOLLOW, state="hidden")
    assert text(desk, "#ab-progress b") == today and desk.page.is_visible(DONE)
    desk.go(desk.page.url)
    desk.page.get_by_text("Taken back: that vote counts nowhere").wait_for()

    desk.page.click("#ab-start")
    desk.page.locator("#ab-batch", has_text="1 of 10").wait_for()
    ready(desk)
    desk.page.keyboard.press("1")
    desk.page.locator("#ab-batch", has_text="2 of 10").wait_for()
    desk.page.get_by_role("button", name="That was a slip").click()
    desk.page.locator("#ab-batch", has_text="1 of 10").wait_for()
    desk.page.click("#ab-end")
    reviews = ReviewLog(settings.reviews_log).newest()
    assert [each.event_id for each in votes(settings)[-2:]] == list(reviews)[-2:]
    assert {each.action for each in reviews.values()} == {"withdraw"}
