"""Loop, leaderboard, versions, rollout and contributors in a browser; and what every page owes who looks at it."""

import re
from collections.abc import Iterator
from html import escape
from typing import TYPE_CHECKING

import duckdb
import pytest

from dpo_pipeline.core.votes import decode_preference
from dpo_pipeline.serving.site_map import PAGES, page_at
from dpo_pipeline.settings import Settings
from dpo_pipeline.stores.ledger import Ledger
from dpo_pipeline_tests.browser import AUDITED, SCREENS, Tab, choose, tab
from dpo_pipeline_tests.examples import settings_in
from dpo_pipeline_tests.programs_under_test import Server, serving
from dpo_pipeline_tests.serving.collected import ATTACK, VOTES
from dpo_pipeline_tests.serving.pages.desk import FILLED, KEY, at, inert, project, say, told, vote_as
from dpo_pipeline_tests.upstream import Upstream, answered_by

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = [pytest.mark.slow, pytest.mark.browser]
EMPTY = {
    "": ("#loop .notice", "v1.0 answers everybody"),
    "chat": ("#message", "No messages yet: ask something below."),
    "leaderboard": ("#leaderboard .notice", "No votes yet: open the A/B test page"),
    "versions": ("#versions .notice", "Not evaluated against v1.0 yet."),
    "review": ("#review-count .notice", "No validated preferences yet: vote on the A/B test page."),
    "rollout": ("#rollout .notice", "No version is being rolled out: v1.0 answers everybody."),
    "contributors": ("#contributors .notice", "No votes yet this week: open the A/B test page"),
}

API = (
    "chat-chat_v1_chat_completions_post",
    "preferences-preferences_v1_preferences_get",
    "operation-readyz_readyz_get",
)
"""One with a body, one with choices, and one with neither, as `/docs` calls them."""


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory, models: Upstream) -> Iterator[Server]:
    """A server on which nobody has voted, without an admin key."""
    made = project(settings_in(tmp_path_factory.mktemp("empty")))
    with serving(made.data_dir, **answered_by(models)) as running:
        yield running


@pytest.mark.parametrize("page", FILLED)
def test_every_page_can_be_read_on_every_screen(browser: "Browser", server: Server, page: str) -> None:
    with at(browser, server, page) as opened:
        opened.page.wait_for_timeout(300)
        has_its_own_head(opened, page)
        if page in ("", "leaderboard", "versions", "rollout"):
            opened.picture(f"{page or 'loop'}.png", height={"rollout": 1200, "versions": 1370}.get(page))
        for width, scheme in SCREENS:
            opened.show_on(width, scheme)
            opened.assert_fits()
            if (width, scheme) in AUDITED:
                opened.assert_accessible()
        opened.page.evaluate("document.querySelectorAll('details').forEach(each => { each.open = true; })")
        assert opened.page.locator("details[open]").count() >= (2 if page in ("rollout", "versions") else 0)
        for width, scheme in AUDITED:
            opened.show_on(width, scheme)
            opened.assert_accessible()
            opened.assert_fits()
        assert bool(opened.page.locator("select:visible").count()) == (page in ("leaderboard", "review"))
        assert opened.page.locator("[role=listbox], [role=combobox]").count() == 0, "lists are the browser's own"
        opened.assert_clean()


def has_its_own_head(opened: Tab, path: str) -> None:
    page, expected = opened.page, page_at(path)
    assert expected is not None and page.title() == expected.title
    assert page.locator("h1").all_inner_texts() == [expected.heading]
    crumbs = page.locator(".crumbs li")
    assert crumbs.last.locator("[aria-current=page]").count() == 1, "the last part is where one is"
    assert crumbs.locator("a").count() == crumbs.count() - 1, "all others lead there"


def test_every_page_says_what_it_is_before_any_script_runs(server: Server) -> None:
    said = [server.client.get(page.address).text for page in PAGES]
    for page, html in zip(PAGES, said, strict=True):
        assert html.count("<title>") == 1 and f"<title>{escape(page.title)}</title>" in html
        assert f'<meta name="description" content="{escape(page.description)}">' in html
        assert "@Gradio" not in html and "gradio.app" not in html
    for path in ("/sign-in", "/docs", "/reports/weekly", "/versions/v9.9", "/nowhere"):
        said.append(server.client.get(path, headers={"Accept": "text/html"}).text)
        assert '<meta name="description" content="' in said[-1], path
    for part in (r"<title>(.*?)</title>", r'name="description" content="(.*?)"'):
        found = [re.findall(part, html)[0] for html in said]
        assert len(set(found)) == len(said), found
    assert len({re.findall(r'rel="icon"[^>]*href="(.*?)"', html)[0] for html in said[: len(PAGES)]}) == len(PAGES)
    assert server.client.get("/favicon.ico").headers["content-type"] == "image/svg+xml"


def test_what_is_not_there_leads_back(browser: "Browser", empty: Server) -> None:
    for path in ("/nowhere", "/v1/nowhere", "/chat/nowhere", "/login"):
        assert empty.client.get(path).json()["error"]["code"] == "not_found", path
    page = empty.client.get("/v1/versions/<b>/card", headers={"Accept": "text/html,*/*;q=0.8"})
    assert page.status_code == 404 and "<b>" not in page.text
    with tab(browser, f"{empty.url}/nowhere", wait="[role=alert]") as opened:
        opened.errors.clear()  # Chromium notes the 404
        assert opened.page.title() == "There is no such page · LLMOps Loop"
        for width, scheme in AUDITED:
            opened.show_on(width, scheme)
            opened.assert_fits()
            opened.assert_accessible()
        opened.page.locator(".crumbs").get_by_role("link", name="LLMOps Loop").click()
        opened.page.wait_for_selector(FILLED[""])
        opened.assert_clean()


@pytest.mark.parametrize("page", EMPTY)
def test_a_page_with_nothing_to_show_says_what_to_do(browser: "Browser", empty: Server, page: str) -> None:
    wait, words = EMPTY[page]
    with tab(browser, f"{empty.url}/{page}", wait=wait) as opened:
        opened.page.get_by_text(words).first.wait_for()
        opened.assert_accessible()
        opened.assert_clean()


def test_the_page_of_the_api_can_be_read_and_tried(browser: "Browser", empty: Server) -> None:
    with tab(browser, f"{empty.url}/docs", wait=".opblock") as opened:
        page = opened.page
        page.locator("h1", has_text="The HTTP API").wait_for()
        assert page.locator(".crumbs a").count() == 2, "it leads back to the pages"
        asked = [page.locator(f"#operations-{name}") for name in API]
        for operation in asked:
            operation.locator(".opblock-summary-control").click()
            operation.locator(".try-out__btn").click()
        for width, scheme in AUDITED:
            opened.show_on(width, scheme)
            opened.assert_accessible()
            opened.assert_fits()
        asked[-1].locator(".execute").click()
        asked[-1].locator(".live-responses-table .response").wait_for()
        opened.assert_clean()


def test_what_people_and_models_write_does_nothing(browser: "Browser", server: Server, models: Upstream) -> None:
    with at(browser, server, "chat") as opened:
        toggle = opened.page.get_by_role("button", name="Show raw text")
        models.say = lambda model, question: "Nothing that is formatted."
        say(opened, "Why?")
        assert not toggle.is_visible(), "there is nothing else to show"
        models.say = lambda model, question: f"You asked: {ATTACK} **bold** ![x](https://example.com/x.png)"
        say(opened, ATTACK)
        inert(opened, "#conversation")
        assert "![x](https://example.com/x.png)" in opened.page.inner_text("#conversation")
        assert opened.page.locator("#conversation .md strong").inner_text() == "bold"
        toggle.click()
        assert "**bold** ![x](https://example.com/x.png)" in opened.page.inner_text("#conversation")
        opened.page.get_by_role("button", name="Show formatted").click()
    with at(browser, server, "review") as opened:
        opened.page.get_by_label("Text").fill("onerror")
        opened.page.locator("#review-pair", has_text="onerror").wait_for()
        inert(opened, "#review-pair")
        inert(opened, "#review-list")


def test_pages_open_while_the_warehouse_is_locked(server: Server, settings: Settings) -> None:
    with duckdb.connect(str(settings.warehouse_path)) as connection:
        connection.execute("create table if not exists held (i integer)")
        for page in ("/", "/loop", "/compare", "/chat", "/leaderboard", "/review", "/rollout", "/contributors"):
            assert server.client.get(page, follow_redirects=True).status_code == 200


def test_the_leaderboard_shows_scores_wins_and_votes(browser: "Browser", server: Server, settings: Settings) -> None:
    with at(browser, server, "leaderboard") as opened:
        shown = opened.page.inner_text("#leaderboard")
        ranked = opened.page.locator("table").first.locator("tbody th").all_inner_texts()
        assert ranked == ["v1.2", "v1.1", "v1.0"]
        assert "95 % interval" in shown and "Wins against all others" in shown and "At equal style" in shown
        assert opened.page.locator("table:visible").count() == 1, "one table; the rest is folded"
        assert opened.page.locator(".scale .axis > span").count() >= 2
        opened.page.get_by_text("Votes per pair").click()
        votes = opened.page.locator("table").last.locator("tbody td:last-child").all_inner_texts()
        assert sum(map(int, votes)) == VOTES + 1
        assert opened.page.locator(".track").count() == 3

        lists_close_by_themselves(opened)
        choose(opened.page, "#of-category", "Creative")
        opened.page.get_by_text("clear the filters to see them").wait_for()
        assert "At equal style" not in opened.page.locator("thead").first.inner_text()
        opened.page.get_by_text("Votes per pair").click()
        events = list(map(decode_preference, settings.prefs_log.read_bytes().splitlines()))
        creative = sum(event.category == "creative" for event in events)
        votes = opened.page.locator("table").last.locator("tbody td:last-child").all_inner_texts()
        assert sum(map(int, votes)) == creative
        opened.page.get_by_label("Category").focus()
        opened.page.keyboard.press("Home")
        opened.page.get_by_text("clear the filters to see them").wait_for(state="hidden")
        choose(opened.page, "#of-source", "Your product (API)")
        of_api = sum(event.source == "api" and event.model_a != event.model_b for event in events)
        opened.page.locator("#leaderboard", has_text="Votes that match the filters").wait_for()
        opened.page.get_by_text("Votes per pair").click()
        votes = opened.page.locator("table").last.locator("tbody td:last-child").all_inner_texts()
        assert sum(map(int, votes)) == of_api
        choose(opened.page, "#of-days", "Today")
        opened.page.get_by_text("Days begin at midnight in UTC").wait_for()
        choose(opened.page, "#of-whom", "Simulated people")
        opened.page.get_by_text("No votes between two versions match these filters").wait_for()
        opened.assert_fits()
        opened.assert_clean()


def lists_close_by_themselves(opened: Tab) -> None:
    """By Escape, by going on with Tab, and by a click elsewhere; without choosing anything."""
    page, unfolded = opened.page, opened.page.locator("select:open")
    page.get_by_label("Category").focus()
    for key in ("Escape", "Tab"):
        page.keyboard.press("Space")
        unfolded.wait_for()
        page.keyboard.press(key)
        unfolded.wait_for(state="detached")
    page.get_by_label("Category").click()
    unfolded.wait_for()
    page.mouse.click(5, 5)
    unfolded.wait_for(state="detached")
    assert page.get_by_label("Category").input_value() == ""


def test_the_rollout_is_watched_and_ordered_about(browser: "Browser", server: Server, settings: Settings) -> None:
    with at(browser, server, "rollout") as opened:
        page = opened.page
        shown = page.inner_text("#rollout")
        for part in ("#rollout .notice", "#evidence th", ".timeline .muted"):
            assert page.locator(f"{part} a", has_text="v1.1").first.get_attribute("href") == "/versions/v1.1"
        assert "canary" in page.inner_text("li[aria-current]") and "5% of requests" in shown
        assert "and is waiting: canary lasts at least 24 h" in shown and "needs 18 more requests" in shown
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
        opened.go(f"{server.url}/contributors")
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
