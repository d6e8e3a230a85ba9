"""Loop, chat, leaderboard, versions, review, rollout and others in a browser: what people see, and what is on disk.

Answers come from a second server that says what the test wants, so that nothing here waits for a model.
"""

import json
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import duckdb
import httpx
import msgspec
import pytest

from dpo_pipeline.core.judged_examples import JudgedExamples
from dpo_pipeline.core.serving_records import FeedbackRecord, RequestRecord
from dpo_pipeline.core.verdict import JudgedAnswer
from dpo_pipeline.core.votes import decode_preference
from dpo_pipeline.settings import Settings
from dpo_pipeline.stores.artifacts import write_text
from dpo_pipeline.stores.bank import read_bank
from dpo_pipeline.stores.ledger import Ledger
from dpo_pipeline.stores.reviews import ReviewLog, read_validated_pairs
from dpo_pipeline.stores.serving_log import read_records
from dpo_pipeline_tests.browser import Tab, choose, tab
from dpo_pipeline_tests.examples import put_version, settings_in
from dpo_pipeline_tests.programs_under_test import Server, eventually, serving
from dpo_pipeline_tests.serving import collected
from dpo_pipeline_tests.serving.collected import ATTACK, VOTES
from dpo_pipeline_tests.upstream import Upstream, answered_by

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = [pytest.mark.slow, pytest.mark.browser]
KEY = "open sesame, please"
FILLED = {
    "loop": "#loop .strip",
    "chat": "#message",
    "leaderboard": "#leaderboard caption",
    "versions": "#versions .figures",
    "review": "#review-pair .text",
    "rollout": "#evidence caption",
    "contributors": "#contributors caption",
}
EMPTY = {
    "loop": ("#loop .notice", "v1.0 answers everybody"),
    "chat": ("#message", "No messages yet: ask something below."),
    "leaderboard": ("#leaderboard .notice", "No votes yet: open the A/B test page"),
    "versions": ("#versions .notice", "Not evaluated against v1.0 yet."),
    "review": ("#review-count .notice", "No validated preferences yet: vote on the A/B test page."),
    "rollout": ("#rollout .notice", "No version is being rolled out: v1.0 answers everybody."),
    "contributors": ("#contributors .notice", "No votes yet this week: open the A/B test page"),
}


EVALUATION = {
    "verdict": "improved",
    "reasons": ["win rate 66.1% [58.3%, 73.0%] of 146 on 73 questions", "answers have 24.1 words, the parent's 15.0"],
    "overall": {"rate": 0.661, "low": 0.583, "high": 0.73},
    "by_category": {"factual_qa": {"rate": 0.7, "low": 0.5, "high": 0.86}},
    "controlled": 0.575, "controlled_error": 0.05, "words": 24.1, "parent_words": 15.0,
}  # fmt: skip


@pytest.fixture(autouse=True)
def answers(models: Upstream) -> None:
    models.say, models.word_s, models.status = lambda model, question: f"You asked: {question}", 0.0, 200


def project(settings: Settings) -> Settings:
    """Two versions that the other server answers for, v1.0 in production."""
    with Ledger(settings.ledger_address) as ledger:
        for name in ("v1.0", "v1.1"):
            parent = None if name == "v1.0" else "v1.0"
            put_version(
                ledger, name, status="registered", parent=parent, adapter_sha=name[-1] * 64, adapter_dir="there"
            )
        ledger.install_champion("v1.0", actor="test")
    return settings


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """People have voted, and v1.1 is at stage canary."""
    made = project(settings_in(tmp_path_factory.mktemp("collected")))
    with Ledger(made.ledger_address) as ledger:
        put_version(ledger, "v1.1", parent="v1.0", pairs=96, win_rate=0.661, evaluation=EVALUATION)
    collected.vote(made)
    collected.curate(made)
    collected.roll_out(made)
    collected.join(made)
    return made


@pytest.fixture(scope="module")
def server(settings: Settings, models: Upstream) -> Iterator[Server]:
    with serving(settings.data_dir, **answered_by(models), DPO_KEYS__ADMIN=KEY) as running:
        yield running


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory, models: Upstream) -> Iterator[Server]:
    """A server on which nobody has voted, without an admin key."""
    made = project(settings_in(tmp_path_factory.mktemp("empty")))
    with serving(made.data_dir, **answered_by(models)) as running:
        yield running


def at(browser: "Browser", server: Server, page: str, **screen: Any) -> AbstractContextManager[Tab]:
    return tab(browser, f"{server.url}/{page}", wait=FILLED[page], **screen)


def told(opened: Tab, words: str) -> None:
    """The person reads this soon."""
    opened.page.locator("#told", has_text=words).wait_for()


def say(opened: Tab, words: str) -> None:
    """Type, press Enter, and wait for the whole answer."""
    answered = opened.page.locator("#conversation [aria-busy=false] .by .muted")
    before = answered.count()
    opened.page.fill("#message textarea", words)
    opened.page.keyboard.press("Enter")
    answered.nth(before).wait_for()


def records(settings: Settings, kind: type) -> list[Any]:
    return [each for each in read_records(settings.serving_log_dir, "2026-01-01T00:00:00Z") if isinstance(each, kind)]


def new_requests(settings: Settings, before: int, count: int) -> list[RequestRecord]:
    """The requests since there were `before`; they are written a moment after the answer is on the page."""
    found = eventually(lambda: records(settings, RequestRecord), lambda seen: len(seen) >= before + count)[before:]
    assert len(found) == count
    return found


@pytest.mark.parametrize("page", FILLED)
@pytest.mark.parametrize(
    ("width", "scheme"),
    [
        (1440, "light"),
        (390, "dark"),
        pytest.param(390, "light", marks=pytest.mark.nightly),
        pytest.param(1440, "dark", marks=pytest.mark.nightly),
    ],
)
def test_every_page_can_be_read_on_every_screen(
    browser: "Browser", server: Server, page: str, width: int, scheme: Literal["light", "dark"]
) -> None:
    with at(browser, server, page, width=width, scheme=scheme) as opened:
        opened.page.wait_for_timeout(300)
        opened.assert_fits()
        opened.assert_accessible()
        opened.assert_clean()
        if (width, scheme) == (1440, "light") and page in ("loop", "leaderboard", "versions", "rollout"):
            opened.picture(f"{page}.png", height=1250 if page == "rollout" else None)


@pytest.mark.parametrize("page", EMPTY)
def test_a_page_with_nothing_to_show_says_what_to_do(browser: "Browser", empty: Server, page: str) -> None:
    wait, words = EMPTY[page]
    with tab(browser, f"{empty.url}/{page}", wait=wait) as opened:
        opened.page.get_by_text(words).first.wait_for()
        opened.assert_accessible()
        opened.assert_clean()


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


def test_a_reload_keeps_conversation_and_draft_and_another_tab_begins_anew_as_the_same_person(
    browser: "Browser", server: Server, settings: Settings
) -> None:
    before = len(records(settings, RequestRecord))
    with at(browser, server, "chat") as opened:
        page = opened.page
        # Whoever is quicker than the page's first moment goes by the visit.
        page.wait_for_function("localStorage.getItem('dpo-person')")
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
        second.wait_for_function("localStorage.getItem('dpo-person')")
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
        page.wait_for_function("localStorage.getItem('dpo-person')")
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
    models.say, models.word_s = lambda model, question: " ".join(f"word{n}" for n in range(200)), 0.1
    before = len(records(settings, RequestRecord))
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
        # What a person stops has its line, and is no failure of the version.
        found = eventually(lambda: records(settings, RequestRecord)[before:], lambda found: len(found) == 1, seconds=5)
        assert [record.outcome for record in found] == ["cancelled"]
        models.word_s = 0.0
        models.say = lambda model, question: f"You asked: {question}"
        say(opened, "still there?")
        opened.assert_clean()


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
    with at(browser, server, "chat") as opened:
        opened.page.fill("#message textarea", "Are you there?")
        opened.page.keyboard.press("Enter")
        opened.page.locator("#told .trouble").wait_for()
        assert opened.page.input_value("#message textarea") == "Are you there?"
        models.status = 200
        opened.page.keyboard.press("Enter")
        opened.page.locator("[aria-busy=false] .by .muted").wait_for()


def test_what_people_and_models_write_does_nothing(browser: "Browser", server: Server, models: Upstream) -> None:
    models.say = lambda model, question: f"You asked: {ATTACK} **bold** ![x](https://example.com/x.png)"
    with at(browser, server, "chat") as opened:
        say(opened, ATTACK)
        inert(opened, "#conversation")
        assert "![x](https://example.com/x.png)" in opened.page.inner_text("#conversation")
        assert opened.page.locator("#conversation .md strong").inner_text() == "bold"
        opened.page.get_by_role("button", name="Show raw text").click()
        assert "**bold** ![x](https://example.com/x.png)" in opened.page.inner_text("#conversation")
        opened.page.get_by_role("button", name="Show formatted").click()
    with at(browser, server, "review") as opened:
        inert(opened, "#review-pair")
        inert(opened, "#review-list")


def inert(opened: Tab, part: str) -> None:
    """The attack is there to be read, and that is all."""
    opened.page.wait_for_timeout(300)
    assert ATTACK[:40] in opened.page.inner_text(part)
    assert opened.page.title() != "hit"
    assert opened.page.locator(f"{part} img[src=x], {part} svg[onload], {part} a[href^=javascript]").count() == 0
    opened.assert_clean()


def test_pages_open_while_the_warehouse_is_locked(server: Server, settings: Settings) -> None:
    with duckdb.connect(str(settings.warehouse_path)) as connection:
        connection.execute("create table if not exists held (i integer)")
        for page in ("/", "/chat", "/leaderboard", "/review", "/rollout", "/contributors"):
            assert server.client.get(page, follow_redirects=True).status_code == 200


def test_a_version_has_a_page_that_others_lead_to(browser: "Browser", server: Server, settings: Settings) -> None:
    report = settings.reports_dir / "evaluation" / "v1.1-attempt1.html"
    write_text(report, "<!doctype html><title>v1.1 against v1.0</title><p>the whole evaluation")
    won = JudgedAnswer(
        "Why do cats purr?", "factual_qa", "win", f"They are content. {collected.ATTACK}", "They are cats."
    )
    examples = msgspec.json.encode(JudgedExamples(won=(won,)))
    write_text(report.with_suffix(".json"), examples.decode())
    with at(browser, server, "leaderboard") as opened:
        opened.page.locator("#leaderboard").get_by_role("link", name="v1.1", exact=True).first.click()
        opened.page.wait_for_url("**/versions?name=v1.1")
        shown = opened.page.locator("#versions")
        shown.locator("h3", has_text="v1.1").wait_for()
        told = shown.inner_text()
        for words in ("so that length alone may explain it", "rolling out", "PeftModel.from_pretrained", "job execute"):
            assert words in told
        assert "staging" in shown.locator(".timeline").inner_text()
        shown.get_by_text("Why do cats purr?").click()
        sides = shown.locator("details .sides section")
        assert sides.nth(1).locator("mark").all_inner_texts() == ["cats."] and "content." in sides.nth(0).inner_text()
        assert "Answers it lost" not in told and opened.page.title() != "hit"
        shown.get_by_role("link", name="The whole evaluation").click()
        opened.page.get_by_text("the whole evaluation").wait_for()
        opened.go(f"{server.url}/versions?name=v9.9")
        opened.page.get_by_text("This cannot be shown").wait_for()
    assert httpx.get(f"{server.url}/v1/versions/v1.0/evaluation").json()["error"]["code"] == "not_evaluated"
    for name in ("*", "v1.*", "..%2f..%2fledger"):
        assert httpx.get(f"{server.url}/v1/versions/{name}/evaluation").status_code == 404


def test_the_leaderboard_shows_scores_wins_and_votes(browser: "Browser", server: Server, settings: Settings) -> None:
    with at(browser, server, "leaderboard") as opened:
        shown = opened.page.inner_text("#leaderboard")
        ranked = opened.page.locator("table").first.locator("tbody th").all_inner_texts()
        assert ranked == ["v1.2", "v1.1", "v1.0"]
        assert "95 % interval" in shown and "Head-to-head" in shown
        votes = opened.page.locator("table").last.locator("tbody td:last-child").all_inner_texts()
        assert sum(map(int, votes)) == VOTES + 1
        assert opened.page.locator(".track").count() == 3

        choose(opened.page, "#of-category", "Creative")
        opened.page.get_by_text("Against all others").wait_for(state="detached")
        events = map(decode_preference, settings.prefs_log.read_bytes().splitlines())
        creative = sum(event.category == "creative" for event in events)
        votes = opened.page.locator("table").last.locator("tbody td:last-child").all_inner_texts()
        assert sum(map(int, votes)) == creative
        choose(opened.page, "#of-whom", "Simulated people")
        opened.page.get_by_text("No votes between two versions match these filters").wait_for()
        opened.assert_fits()
        opened.assert_clean()


def test_preferences_are_browsed_filtered_and_read(browser: "Browser", server: Server, settings: Settings) -> None:
    pairs = list(read_validated_pairs(settings.review_table))
    with at(browser, server, "review") as opened:
        page = opened.page
        assert f"{len(pairs)} of the newest {len(pairs)} validated preferences, page 1 of" in page.inner_text(
            "#review-count"
        )
        page.get_by_label("rejected", exact=True).check()
        rejected = [pair for pair in pairs if not pair.valid]
        page.get_by_text(f"{len(rejected)} of the newest").wait_for()
        page.get_by_label("valid", exact=True).check()
        choose(page, "#filter-category", "creative")
        fits = [pair for pair in pairs if pair.valid and pair.category == "creative"]
        page.get_by_text(f"{len(fits)} of the newest").wait_for()
        opened.picture("review.png")
        with page.expect_download() as download:
            page.get_by_role("link", name="TRL").click()
        rows = [json.loads(line) for line in Path(download.value.path()).read_text().splitlines()]
        assert download.value.suggested_filename == "preferences-trl.jsonl"
        assert [row["prompt"][0]["content"] for row in rows] == [pair.prompt for pair in fits if pair.vote in "ab"]
        second = fits[1]
        page.locator("#review-list input").nth(0).focus()
        page.keyboard.press("Tab")
        page.keyboard.press("Space")
        page.locator("#review-pair", has_text=second.event_id).wait_for()
        read = page.inner_text("#review-pair")
        assert second.response_a in read and second.response_b in read and second.prompt in read
        page.get_by_label("Text").fill("no such words anywhere")
        page.get_by_text("Nothing matches these filters").wait_for()
        page.get_by_label("Text").fill("")
        page.get_by_text(f"{len(fits)} of the newest").wait_for()
        page.get_by_role("button", name="Older").click() if len(fits) > 10 else None
        opened.assert_clean()


def test_a_preference_is_excluded_and_restored_with_a_reason_behind_the_key(
    browser: "Browser", server: Server, settings: Settings
) -> None:
    log, chosen = ReviewLog(settings.reviews_log), next(read_validated_pairs(settings.review_table))
    prefs = settings.prefs_log.read_bytes()
    with at(browser, server, "review") as opened:
        page = opened.page
        exclude, restore = (
            page.get_by_role("button", name=name, exact=True) for name in ("Exclude from training", "Restore")
        )
        for reason, key, answer in (
            ("spam", "wrong", "The key is wrong or was revoked"),
            ("spam", "", "This needs the key of a reviewer"),
            ("", KEY, "Give a reason"),
        ):
            page.fill("#reason textarea, #reason input", reason)
            page.fill("#key input", key)
            exclude.click()
            told(opened, answer)
        assert log.newest() == {}

        page.fill("#reason textarea, #reason input", "an attack, see me@home.example")
        exclude.click()
        told(opened, "Excluded. Left out of datasets")
        page.locator("#review-pair", has_text="an attack, see [e-mail]").wait_for()
        assert "Takes effect after the next curation run" in page.inner_text("#review-pair")
        review = log.newest()[chosen.event_id]
        assert (review.action, review.actor, review.reason) == ("exclude", "admin", "an attack, see [e-mail]")

        collected.curate(settings)
        choose(page, "#filter-criterion", "excluded")
        page.get_by_text("1 of the newest").wait_for()
        page.locator("#review-pair", has_text="Takes effect after").wait_for(state="detached")
        page.fill("#reason textarea, #reason input", "it teaches something")
        restore.click()
        told(opened, "Restored. Included in")
        assert log.newest()[chosen.event_id].action == "restore"
        by_key(page, log)
        collected.curate(settings)
        page.reload()
        many_at_once(opened, settings)
    collected.curate(settings)
    assert next(read_validated_pairs(settings.review_table)) == chosen
    assert settings.prefs_log.read_bytes() == prefs, "the votes themselves are never touched"


def by_key(page: Any, log: ReviewLog) -> None:
    """J and K move, E excludes, U undoes; the pair it was about stays on screen, beside what the team agreed on."""
    log.path.with_name("guidelines.md").write_text("Prefer **short** answers.")
    page.reload()
    page.get_by_text("Guidelines of the team").click()
    page.get_by_text("Prefer short answers.").wait_for()
    choose(page, "#filter-source", "ui")
    page.get_by_label("valid", exact=True).check()
    pairs = page.locator("#review-list input")
    page.locator("#review-list input:checked").wait_for()
    before = page.inner_text("#review-pair")
    page.locator("#review-pair h3").first.click()
    page.keyboard.press("j")
    expect_checked(pairs, 1)
    page.keyboard.press("k")
    expect_checked(pairs, 0)
    page.keyboard.press("e")
    assert page.evaluate("document.activeElement.closest('#reason') !== null"), "a reason comes first"
    page.keyboard.type("a joke")
    page.fill("#key input", KEY)
    page.locator("#review-pair h3").first.click()
    page.keyboard.press("e")
    page.locator("#review-pair", has_text="a joke").wait_for()
    assert before.splitlines()[-1] in page.inner_text("#review-pair")
    page.keyboard.press("u")
    page.locator("#review-pair", has_text="a joke").wait_for(state="detached")
    assert [each.reason for each in log.newest().values()].count("undone") == 1


def expect_checked(pairs: Any, place: int) -> None:
    assert eventually(lambda: bool(pairs.nth(place).is_checked()), bool)


def many_at_once(opened: Tab, settings: Settings) -> None:
    """All that match, after a look at how many; and back."""
    page, log = opened.page, ReviewLog(settings.reviews_log)
    fits = [pair for pair in read_validated_pairs(settings.review_table) if pair.category == "creative" and pair.valid]
    choose(page, "#filter-category", "creative")
    page.get_by_label("valid", exact=True).check()
    page.get_by_text(f"{len(fits)} of the newest").wait_for()
    page.fill("#reason textarea, #reason input", "the questions were drawn wrongly")
    page.fill("#key input", KEY)
    before = log.newest()
    page.get_by_role("button", name="Exclude all that match").click()
    page.get_by_text(f"Exclude {len(fits)} pairs: all that match the filters above").wait_for()
    page.get_by_role("button", name="Cancel").click()
    page.locator("#asked").wait_for(state="hidden")
    assert log.newest() == before, "nothing happens to many without a yes"
    page.get_by_role("button", name="Exclude all that match").click()
    page.get_by_role("button", name=f"Exclude {len(fits)} pairs").click()
    told(opened, f"datasets built after the next curation run: {len(fits)} pairs")
    assert {name for name, each in log.newest().items() if each.action == "exclude"} == {each.event_id for each in fits}
    collected.curate(settings)
    page.get_by_label("all", exact=True).check()
    page.fill("#reason textarea, #reason input", "they were not")
    page.get_by_role("button", name="Restore all that match").click()
    page.get_by_role("button", name=f"Restore {len(fits)} pairs").click()
    told(opened, f"Restored. Included in datasets built after the next curation run: {len(fits)} pairs")
    assert not [each for each in log.newest().values() if each.action == "exclude"]


def test_without_an_admin_key_a_person_at_the_machine_may_exclude(
    browser: "Browser", models: Upstream, tmp_path_factory: pytest.TempPathFactory
) -> None:
    own = project(settings_in(tmp_path_factory.mktemp("keyless")))
    collected.vote(own)
    collected.curate(own)
    with serving(own.data_dir, **answered_by(models)) as server:
        with at(browser, server, "review") as opened:
            opened.page.fill("#reason textarea, #reason input", "spam")
            opened.page.get_by_role("button", name="Exclude from training").click()
            told(opened, "Excluded.")
        [review] = ReviewLog(own.reviews_log).newest().values()
        assert review.actor == "a person at the machine"
        with at(browser, server, "rollout") as opened:
            opened.page.get_by_text("Nobody has an operator's key yet; this page is read-only").wait_for()
            assert opened.page.get_by_role("button", name="Pause", exact=True).count() == 0


def test_the_rollout_is_watched_and_ordered_about(browser: "Browser", server: Server, settings: Settings) -> None:
    with at(browser, server, "rollout") as opened:
        page = opened.page
        shown = page.inner_text("#rollout")
        assert "canary" in page.inner_text("li[aria-current]") and "5% of requests" in shown
        assert "and is waiting: canary lasts at least 24 h" in shown and "12 of 30 requests to the new version" in shown
        assert page.locator(".rules li", has_text="p99 latency").locator(".chip").inner_text() == "OK"
        assert page.locator(".rules .limit").count() >= 4, "rules with data are drawn against their limit"
        assert "panel: these people" in page.inner_text("#evidence")
        assert "Forecast and what happened" in page.inner_text("#evidence")
        assert page.get_by_role("button", name="Show older decisions").count() == 0

        order(opened, "Pause", "let me look", "wrong")
        told(opened, "The key is wrong or was revoked")
        order(opened, "Pause", " ", KEY)
        told(opened, "Give a reason")
        order(opened, "Pause", "let me look", KEY)
        told(opened, "Paused")
        page.locator(".timeline > li", has_text="let me look").wait_for()
        assert "paused" in page.inner_text("li[aria-current]")
        order(opened, "Resume", "looks well", KEY)
        told(opened, "Resumed")

        order(opened, "Promote", "good enough", KEY)
        told(opened, "is not promoted: its adapter is not whole")
        with Ledger(settings.ledger_address) as ledger:
            ledger.promote("small", ledger.deployment().epoch, ("moved elsewhere",), {}, "loop")
        moved = page.locator(".timeline > li", has_text="moved elsewhere")
        moved.wait_for()
        assert "canary → small" in moved.inner_text() and "promoted" in moved.inner_text()
        page.locator("li[aria-current]", has_text="20% of requests").wait_for()
        started = page.locator(".timeline > li", has_text="A/B test won")
        started.locator("summary").click()
        started.get_by_text("Rules as this decision saw them").wait_for()

        opened.page.get_by_role("button", name="Abort: roll it back", exact=True).click()
        page.get_by_role("button", name="No, keep it").click()
        page.get_by_role("button", name="No, keep it").wait_for(state="hidden")
        abort(opened, "people complain")
        told(opened, "Rolled back")
        page.get_by_text("No version is being rolled out: v1.0 answers everybody").wait_for()
        page.get_by_text("If a version were rolled out now").wait_for()
        abort(opened, "again")
        told(opened, "Nothing to roll back")
        opened.assert_clean()
    with Ledger(settings.ledger_address) as ledger:
        last = ledger.decisions()[-1]
    assert (last.decision, last.reasons, last.actor) == ("rollback", ("people complain",), "admin")


def abort(opened: Tab, reason: str) -> None:
    opened.page.get_by_role("button", name="Abort: roll it back", exact=True).click()
    order(opened, "Yes, roll it back", reason, KEY)


def order(opened: Tab, button: str, reason: str, key: str) -> None:
    opened.page.fill("#reason textarea, #reason input", reason)
    opened.page.fill("#key input", key)
    opened.page.get_by_role("button", name=button, exact=True).click()


def test_contributors_are_named_only_if_they_want_to(browser: "Browser", server: Server) -> None:
    with at(browser, server, "contributors") as opened:
        page, before = opened.page, tab_text(opened)
        assert "Grace" in before and "Linus" in before and "5 others" in before and "Share of the target" in before
        nickname(opened, "x")
        told(opened, "2 to 24 characters")
        nickname(opened, "Ada")
        told(opened, "You are now Ada.")
        row = page.locator("#contributors tbody tr", has_text="Ada (you)")
        row.wait_for()
        vote_as(opened, server)
        row.wait_for()
        assert row.inner_text().split()[:4] == ["Ada", "(you)", "1", "1%"] and "1 day" in row.inner_text()
        opened.picture("contributors.png")
        with at(browser, server, "contributors") as other:
            nickname(other, "ADA")
            told(other, "Somebody else goes by")
            assert "(you)" not in tab_text(other)
        nickname(opened, "Ada <b>L</b>")
        page.locator("#contributors th", has_text="Ada <b>L</b> (you)").wait_for()
        page.get_by_role("button", name="Leave").click()
        told(opened, "Your nickname was removed")
        page.locator("#contributors", has_text="6 others").wait_for()
        assert "Ada" not in tab_text(opened)
        opened.assert_clean()


def nickname(opened: Tab, name: str) -> None:
    opened.page.fill("#nickname textarea, #nickname input", name)
    opened.page.get_by_label("Your nickname").press("Enter")


def tab_text(opened: Tab) -> str:
    return opened.page.inner_text("#contributors")


def vote_as(opened: Tab, server: Server) -> None:
    """One vote by the person of this tab, on the A/B page."""
    page = opened.page
    opened.go(server.url)
    page.fill("#ab-typed textarea", "Why do cats purr?")
    page.click("#ab-generate")
    page.wait_for_selector("#ab-left:not([disabled])")
    page.wait_for_timeout(400)
    page.click("#ab-left")
    page.wait_for_selector("#ab-next:visible")
    opened.go(f"{server.url}/contributors")
