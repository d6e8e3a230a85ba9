"""What tests of the pages do with them: open one, say something, read what it tells, and what is on disk."""

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from dpo_pipeline.core.serving_records import RequestRecord
from dpo_pipeline.settings import Settings
from dpo_pipeline.stores.ledger import Ledger
from dpo_pipeline.stores.serving_log import read_records
from dpo_pipeline_tests.browser import Tab, tab
from dpo_pipeline_tests.examples import put_version
from dpo_pipeline_tests.programs_under_test import Server, eventually
from dpo_pipeline_tests.serving.collected import ATTACK

if TYPE_CHECKING:
    from playwright.sync_api import Browser

KEY = "open sesame, please"
FILLED = {
    "": "#loop .strip",
    "chat": "#message",
    "leaderboard": "#leaderboard caption",
    "versions": "#versions .figures",
    "review": "#review-pair .text",
    "rollout": "#evidence caption",
    "contributors": "#contributors caption",
}


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


def inert(opened: Tab, part: str) -> None:
    """The attack is there to be read, and that is all."""
    opened.page.wait_for_timeout(300)
    assert ATTACK[:40] in opened.page.inner_text(part)
    assert opened.page.title() != "hit"
    assert opened.page.locator(f"{part} img[src=x], {part} svg[onload], {part} a[href^=javascript]").count() == 0
    opened.assert_clean()


def vote_as(opened: Tab, server: Server) -> None:
    """One vote by the person of this tab, on the A/B page."""
    page = opened.page
    opened.go(f"{server.url}/compare")
    page.fill("#ab-typed textarea", "Why do cats purr?")
    page.click("#ab-generate")
    page.wait_for_selector("#ab-left:not([disabled])")
    page.wait_for_timeout(400)
    page.click("#ab-left")
    page.wait_for_selector("#ab-next:visible")
