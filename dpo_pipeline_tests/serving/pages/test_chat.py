"""A conversation in a browser: what people see, and what is on disk."""

import json
import time
from typing import TYPE_CHECKING, Any

import pytest

from dpo_pipeline.core.serving_records import FeedbackRecord, RequestRecord
from dpo_pipeline.settings import Settings
from dpo_pipeline.stores.bank import read_bank
from dpo_pipeline_tests.browser import primary
from dpo_pipeline_tests.programs_under_test import Server, eventually
from dpo_pipeline_tests.serving.pages.desk import at, new_requests, records, say, told
from dpo_pipeline_tests.upstream import Upstream

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = [pytest.mark.slow, pytest.mark.browser]


def test_a_conversation_is_answered_rated_and_corrected(
    browser: "Browser", server: Server, settings: Settings, models: Upstream
) -> None:
    known = {question.question: question.detailed[0] for question in read_bank(settings.bank_dir)}
    models.say = lambda model, question: known.get(question, "Then the way through the air is longer, and red is left.")
    before = len(records(settings, RequestRecord))
    with at(browser, server, "chat") as opened:
        page = opened.page
        say(opened, "Why is the sky blue?")
        assert page.inner_text("#conversation .by .muted").strip() in ("Answered by v1.0", "Answered by v1.1")
        say(opened, "And at sunset?")
        said = page.locator("#conversation .turn").all_inner_texts()
        assert said[:2] == ["Why is the sky blue?", known["Why is the sky blue?"]] and len(said) == 4
        assert primary(opened) == ["Send"]
        opened.picture("chat.png")
        request = new_requests(settings, before, 2)[-1]

        page.get_by_role("button", name="Answer again").click()
        asked_again = new_requests(settings, before, 3)[-1]
        page.locator("#conversation [aria-busy=true]").wait_for(state="detached")
        [once_more] = records(settings, FeedbackRecord)[-1:]
        assert (once_more.signal, once_more.request_id, once_more.answer) == (
            "regenerate",
            request.request_id,
            said[-1],
        )
        assert len(page.locator("#conversation .turn").all()) == 4, "in place of the answer before"
        request = asked_again
        page.get_by_role("button", name="Good answer").last.click()
        told(opened, "your opinion is recorded")
        assert page.get_by_role("button", name="Bad answer").last.is_disabled()
        assert page.get_by_role("button", name="Bad answer").first.is_enabled(), "each answer has thumbs of its own"
        page.get_by_role("button", name="4", exact=True).focus()
        page.keyboard.press("Enter")
        told(opened, "4 of 5 is recorded")
        assert page.get_by_role("button", name="5 · very good").is_disabled(), "an answer is rated once"
        page.get_by_role("button", name="Correct this answer").click()
        page.get_by_role("button", name="Save correction").click()
        told(opened, "Nothing was saved")
        page.get_by_label("The answer you would have wanted").fill(
            "Red, because the blue is scattered away. a@b.example"
        )
        page.get_by_role("button", name="Save correction").click()
        told(opened, "stored as an example")

        thumb, rating, correction = records(settings, FeedbackRecord)[-3:]
        assert (thumb.request_id, thumb.signal, thumb.value) == (request.request_id, "thumb", "up")
        assert (rating.request_id, rating.signal, rating.value) == (request.request_id, "rating", 4)
        assert rating.answer == said[-1] and rating.prompt == correction.prompt
        assert correction.request_id == request.request_id
        turns = [(turn["role"], turn["content"]) for turn in correction.prompt]
        assert turns[0] == ("user", "Why is the sky blue?") and turns[-1] == ("user", "And at sunset?")
        assert [role for role, _ in turns] == ["user", "assistant", "user"]
        assert correction.value == "Red, because the blue is scattered away. [e-mail]"
        assert request.user == rating.user == correction.user and request.session_id.startswith("visit-")

        page.get_by_role("button", name="New conversation").click()
        page.get_by_text("No messages yet").wait_for()
        opened.assert_clean()


def test_every_answer_can_be_spoken_of_and_every_question_asked_otherwise(
    browser: "Browser", server: Server, settings: Settings
) -> None:
    before, said_before = len(records(settings, RequestRecord)), len(records(settings, FeedbackRecord))
    with at(browser, server, "chat") as opened:
        page = opened.page
        opened.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        for question in ("First?", "Second?", "Third?"):
            say(opened, question)
        first, second, _ = new_requests(settings, before, 3)
        page.get_by_role("button", name="Bad answer").first.click()
        told(opened, "your opinion is recorded")
        page.get_by_role("button", name="Copy this answer").nth(1).click()
        found = eventually(
            lambda: [(each.signal, each.value, each.request_id) for each in records(settings, FeedbackRecord)],
            lambda found: len(found) == said_before + 4,
        )
        # Each next question is told of the answer before it, without anybody being asked.
        assert found[said_before:] == [
            ("follow_up", "", first.request_id), ("follow_up", "", second.request_id),
            ("thumb", "down", first.request_id), ("copy", "", second.request_id),
        ]  # fmt: skip
        assert page.evaluate("navigator.clipboard.readText()") == "You asked: Second?"

        assert page.inner_text("#chat-judged [data-turn]") == "How good was the last answer?"
        page.get_by_role("button", name="Rate this answer below").first.click()
        page.locator("#chat-judged", has_text="How good was answer 1?").wait_for()
        assert not page.get_by_role("button", name="Answer again").is_visible(), "of the last one alone"
        page.get_by_role("button", name="2", exact=True).click()
        told(opened, "your rating of 2 of 5 is recorded")
        page.get_by_role("button", name="Correct this answer").click()
        assert page.input_value("#chat-correction textarea") == "You asked: First?"
        page.fill("#chat-correction textarea", "You asked about the first thing.")
        page.get_by_role("button", name="Save correction").click()
        told(opened, "stored as an example")
        rating, correction = records(settings, FeedbackRecord)[-2:]
        assert (rating.value, correction.signal) == (2, "correction")
        assert rating.request_id == correction.request_id == first.request_id

        edit = page.get_by_role("button", name="Edit this message").nth(1)
        edit.click()
        told(opened, "replaces that message and everything after it")
        assert page.input_value("#message textarea") == "Second?"
        edit.click()
        page.wait_for_function("document.querySelector('#message textarea').value === ''")
        edit.click()
        page.wait_for_function("document.querySelector('#message textarea').value === 'Second?'")
        page.fill("#message textarea", "Second, otherwise?")
        page.keyboard.press("Enter")
        page.locator("#conversation .turn", has_text="You asked: Second, otherwise?").wait_for()
        page.locator("#conversation [aria-busy=true]").wait_for(state="detached")
        said = page.locator("#conversation .turn").all_inner_texts()
        assert said == ["First?", "You asked: First?", "Second, otherwise?", "You asked: Second, otherwise?"]
        assert page.get_by_role("button", name="Bad answer").first.is_disabled(), "what was said of it stays"
        opened.assert_clean()


def known(page: "Page") -> None:
    """Whoever is quicker than the page's first moment goes by the visit."""
    page.wait_for_function("localStorage.getItem('dpo-person')")


def on_record(page: "Page", settings: Settings, before: int) -> None:
    """The server has written down what it answered, and the tab what it shows: a moment after the answer, both."""
    new_requests(settings, before, 1)
    page.wait_for_function("sessionStorage.getItem('dpo-shown:/chat').includes('chatcmpl-')")


def test_a_reload_keeps_conversation_and_draft_and_another_tab_begins_anew_as_the_same_person(
    browser: "Browser", server: Server, settings: Settings
) -> None:
    before = len(records(settings, RequestRecord))
    with at(browser, server, "chat") as opened:
        page = opened.page
        known(page)
        say(opened, "before")
        page.get_by_role("button", name="Good answer").click()
        told(opened, "your opinion is recorded")
        page.fill("#message textarea", "half a que")
        opened.go(page.url)
        page.locator("#conversation .turn", has_text="You asked: before").wait_for()
        assert page.get_by_role("button", name="Good answer").is_disabled(), "what was said of it stays"
        assert page.input_value("#message textarea") == "half a que"
        say(opened, "after")
        assert page.locator("#conversation .turn").all_inner_texts()[:3] == ["before", "You asked: before", "after"]
        second = page.context.new_page()
        second.goto(page.url)
        second.get_by_text("No messages yet").wait_for()
        known(second)
        second.fill("#message textarea", "elsewhere")
        second.keyboard.press("Enter")
        second.locator("#conversation [aria-busy=false] .by .muted").wait_for()
        one, two, other = new_requests(settings, before, 3)
        assert one.user == two.user == other.user  # on one side of a rollout by person: test_serving
        assert one.session_id == two.session_id != other.session_id
        opened.assert_clean()


def test_a_restart_of_the_server_keeps_the_conversation_and_what_was_said_of_it(
    browser: "Browser", server: Server, settings: Settings
) -> None:
    before = len(records(settings, RequestRecord))
    with at(browser, server, "chat") as opened:
        page = opened.page
        known(page)
        say(opened, "one")
        say(opened, "two")
        page.get_by_role("button", name="Bad answer").first.click()
        told(opened, "your opinion is recorded")
        page.fill("#message textarea", "half a que")
        new_requests(settings, before, 2)
        server.kill()
        server.start()
        opened.go(page.url)
        page.locator("#conversation .turn", has_text="You asked: two").wait_for()
        said = page.locator("#conversation .turn").all_inner_texts()
        assert said == ["one", "You asked: one", "two", "You asked: two"]
        assert page.get_by_role("button", name="Bad answer").first.is_disabled(), "what was said of it stays"
        assert page.input_value("#message textarea") == "half a que"
        say(opened, "three")
        one, _, three = new_requests(settings, before, 3)
        assert (one.user, one.session_id) == (three.user, three.session_id)
        opened.assert_clean()
        # Whoever has its ids but is somebody else sees nothing of it.
        kept = page.evaluate("sessionStorage.getItem('dpo-shown:/chat')")
        assert one.request_id in kept
        thief = "sessionStorage.setItem('dpo-shown:/chat', " + json.dumps(kept) + ")"
        with at(browser, server, "chat", script=thief) as other:
            other.page.wait_for_timeout(500)
            assert "You asked" not in other.page.inner_text("#conversation")


@pytest.mark.parametrize(
    "said", ["rating", *(pytest.param(each, marks=pytest.mark.nightly) for each in ("thumb", "correction"))]
)
def test_what_was_said_while_nobody_heard_it_is_sent_again_once(
    browser: "Browser", server: Server, settings: Settings, said: str
) -> None:
    before, requests_before = len(records(settings, FeedbackRecord)), len(records(settings, RequestRecord))
    with at(browser, server, "chat") as opened:
        page = opened.page
        known(page)
        say(opened, "one")
        page.get_by_role("button", name="Correct this answer").click()
        page.get_by_label("The answer you would have wanted").fill("Another one, and longer than that.")
        on_record(page, settings, requests_before)
        server.kill()
        if said == "thumb":
            page.get_by_role("button", name="Good answer").click()
        else:
            page.get_by_role("button", name="4" if said == "rating" else "Save correction", exact=True).click()
        page.get_by_text("Connection").first.wait_for()
        also = said == "rating"
        if also:  # what is said once the page knows that nobody answers, Gradio does not even try to send
            page.get_by_role("button", name="Good answer").click()
        server.start()
        # Gradio opens the page again by itself once somebody answers.
        told(opened, "It was sent again, and is recorded")
        opened.errors.clear()
        values = {"thumb": "up", "rating": 4, "correction": "Another one, and longer than that."}
        sent = [(record.signal, record.value) for record in records(settings, FeedbackRecord)[before:]]
        assert sent == [(signal, values[signal]) for signal in ((said, "thumb") if also else (said,))]
        page.wait_for_function("sessionStorage.getItem('dpo-unsent:/chat') === '[]'")
        opened.go(page.url)
        page.locator("#conversation .turn", has_text="You asked: one").wait_for()
        page.wait_for_timeout(500)
        assert len(records(settings, FeedbackRecord)) == before + len(sent)
        opened.assert_clean()


def test_a_click_after_a_restart_that_nobody_noticed_is_about_what_is_on_screen(
    browser: "Browser", server: Server, settings: Settings
) -> None:
    before, said_before = len(records(settings, RequestRecord)), len(records(settings, FeedbackRecord))
    with at(browser, server, "chat") as opened:
        page = opened.page
        known(page)
        say(opened, "one")
        on_record(page, settings, before)
        server.kill()
        server.start()
        page.get_by_role("button", name="4", exact=True).click()
        said = eventually(lambda: records(settings, FeedbackRecord)[said_before:], bool)
        assert [(each.signal, each.value) for each in said] == [("rating", 4)]
        opened.errors.clear()
        page.get_by_role("button", name="Answer again").click()
        new_requests(settings, before, 2)
        assert [each.signal for each in records(settings, FeedbackRecord)[said_before:]] == ["rating", "regenerate"]


def test_a_question_sent_while_an_answer_is_written_is_asked_next(
    browser: "Browser", server: Server, models: Upstream
) -> None:
    models.say, models.word_s = lambda model, question: "one two three four five six seven eight nine ten", 0.1
    with at(browser, server, "chat") as opened:
        page = opened.page
        page.fill("#message textarea", "First?")
        page.keyboard.press("Enter")
        page.locator("#conversation", has_text="two").wait_for()
        page.fill("#message textarea", "Second?")
        page.keyboard.press("Enter")
        page.locator("#conversation [aria-busy=false] .by .muted").nth(1).wait_for()
        said = page.locator("#conversation .turn.own").all_inner_texts()
        assert said == ["First?", "Second?"] and page.input_value("#message textarea") == ""


def test_stop_keeps_what_was_written_and_frees_the_place(
    browser: "Browser", server: Server, settings: Settings, models: Upstream
) -> None:
    # As fast as the embedded model: words still come when the page has said that it was stopped.
    models.say, models.word_s = lambda model, question: " ".join(f"word{n}" for n in range(2_000)), 0.01
    before, said_before = len(records(settings, RequestRecord)), len(records(settings, FeedbackRecord))
    with at(browser, server, "chat") as opened:
        page = opened.page
        page.fill("#message textarea", "Tell me everything")
        page.keyboard.press("Enter")
        page.locator("#conversation", has_text="word3").wait_for()
        assert "dpo_engine_running 1.0" in server.client.get("/metrics").text
        page.get_by_role("button", name="Stop").focus()
        page.keyboard.press("Enter")
        told(opened, "Stopped.")
        deadline = time.monotonic() + 5
        while "dpo_engine_running 0.0" not in server.client.get("/metrics").text:
            assert time.monotonic() < deadline, "the place in the batch was not freed"
            time.sleep(0.1)
        # The messages alone: Gradio's own status beside them may flash when an event is cancelled.
        messages = page.locator("#conversation [role=log]")
        kept = messages.inner_text()
        page.wait_for_timeout(500)
        assert "word3" in kept and messages.inner_text() == kept
        assert not page.get_by_role("button", name="5 · very good").is_visible(), "a stopped answer is not rated"
        assert page.locator(".toast-body").count() == 0, "stopping is no error"
        # What a person stops has its line, and is no failure of the version.
        found = eventually(lambda: records(settings, RequestRecord)[before:], lambda found: len(found) == 1, seconds=5)
        assert [record.outcome for record in found] == ["cancelled"]
        [stop] = eventually(lambda: records(settings, FeedbackRecord)[said_before:], len, seconds=5)
        assert (stop.signal, stop.request_id, stop.prompt) == ("stop", found[0].request_id, "Tell me everything")
        assert stop.answer.startswith("word0 word1 word2 word3") and "word1999" not in stop.answer
        models.word_s = 0.0
        models.say = lambda model, question: f"You asked: {question}"
        say(opened, "still there?")
        opened.assert_clean()


def test_a_product_that_stops_a_stream_says_so_and_nobody_judges_half_an_answer(
    server: Server, settings: Settings, models: Upstream
) -> None:
    models.say, models.word_s = lambda model, question: " ".join(f"word{n}" for n in range(200)), 0.05
    body = {"model": "chat", "stream": True, "messages": [{"role": "user", "content": "Tell me all"}], "user": "ann"}
    with server.client.stream("POST", "/v1/chat/completions", json=body) as answer:
        pieces = (json.loads(line[6:]) for line in answer.iter_lines() if line.startswith("data: "))
        first = next(piece for piece in pieces if "word3" in piece["choices"][0]["delta"]["content"])
    models.word_s = 0.0

    def say(**given: Any) -> Any:
        return server.client.post("/v1/feedback", json={"request_id": first["id"], **given})

    assert say(action="stop").status_code == 201, "at once, though the server may not know yet that nobody listens"
    stop = records(settings, FeedbackRecord)[-1]
    assert (stop.signal, stop.prompt, stop.request_id) == ("stop", "Tell me all", first["id"])
    assert stop.answer.startswith("word0 word1 word2 word3") and "word199" not in stop.answer
    assert say(action="copy").status_code == say(comment="Too slow.").status_code == 201
    for given in ({"rating": 5}, {"thumb": "down"}, {"correction": "Less."}, {"action": "regenerate"}):
        refused = say(**given)
        assert refused.status_code == 400 and "stopped before it was whole" in refused.text
    assert server.client.post("/v1/feedback", json={"request_id": "chatcmpl-none", "action": "stop"}).status_code == 404


def test_closing_the_tab_frees_the_place(browser: "Browser", server: Server, models: Upstream) -> None:
    models.say, models.word_s = lambda model, question: " ".join(f"word{n}" for n in range(300)), 0.1
    with at(browser, server, "chat") as opened:
        opened.page.fill("#message textarea", "Tell me everything")
        opened.page.keyboard.press("Enter")
        opened.page.locator("#conversation", has_text="word3").wait_for()
    deadline = time.monotonic() + 10
    while "dpo_engine_running 0.0" not in server.client.get("/metrics").text:
        assert time.monotonic() < deadline, "the place in the batch was not freed"
        time.sleep(0.1)


def test_a_failure_is_told_and_the_question_can_be_sent_again(
    browser: "Browser", server: Server, models: Upstream
) -> None:
    models.status = 500
    with at(browser, server, "chat", width=390) as opened:
        opened.page.set_viewport_size({"width": 390, "height": 400})
        opened.page.fill("#message textarea", "Are you there?")
        opened.page.keyboard.press("Enter")
        opened.page.locator("#told .trouble").wait_for()
        opened.assert_on_screen("#told .trouble")
        assert opened.page.input_value("#message textarea") == "Are you there?"
        models.status = 200
        opened.page.keyboard.press("Enter")
        opened.page.locator("[aria-busy=false] .by .muted").wait_for()
