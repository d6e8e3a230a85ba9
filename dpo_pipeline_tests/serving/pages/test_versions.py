"""The page of a version, whatever leads to it, and the reports that it leads to."""

from typing import TYPE_CHECKING

import httpx
import msgspec
import pytest

from dpo_pipeline.core.judged_examples import JudgedExamples
from dpo_pipeline.core.verdict import JudgedAnswer
from dpo_pipeline.reports import plots
from dpo_pipeline.reports.page import Page
from dpo_pipeline.settings import Settings
from dpo_pipeline.stores.artifacts import write_text
from dpo_pipeline_tests.browser import AUDITED, tab
from dpo_pipeline_tests.programs_under_test import Server
from dpo_pipeline_tests.serving import collected
from dpo_pipeline_tests.serving.pages.desk import at

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = [pytest.mark.slow, pytest.mark.browser]


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


def test_a_report_can_be_read_on_every_screen(browser: "Browser", server: Server, settings: Settings) -> None:
    page = Page("v1.1 against v1.0", "evaluation on 73 held-out questions")
    page.paragraph("improved", "verdict good")
    page.points(["win rate 90.8 %", "it declines all of 24 harmful requests"])
    page.heading("By category")
    page.table([{"category": "a very long name of one" * 3, "questions": 12, "win rate": 0.5, "length": None}])
    page.figure(plots.svg(plots.intervals({"v1.1": (0.9, 0.8, 0.97)}, label="win rate"), 7.0, 2.0), "Win rate")
    page.side_by_side("Why do cats purr?", ("v1.1", "They are content."), ("v1.0", "They are cats."))
    write_text(settings.reports_dir / "evaluation" / "v1.1-attempt1.html", page.html())
    with tab(browser, f"{server.url}/v1/versions/v1.1/evaluation", wait="h1") as opened:
        opened.page.locator("summary").click()
        for width, scheme in AUDITED:
            opened.show_on(width, scheme)
            opened.assert_accessible()
            opened.assert_fits()
        opened.assert_clean()


def test_every_version_has_an_address(browser: "Browser", server: Server) -> None:
    with tab(browser, f"{server.url}/versions/v1.1", wait="#versions .figures") as opened:
        opened.page.locator("#versions h3", has_text="v1.1").first.wait_for()
        opened.assert_clean()
    assert httpx.get(f"{server.url}/versions/chat-v1.1").headers["location"] == "/versions?name=v1.1"
    unknown = httpx.get(f"{server.url}/versions/v9<b>")
    assert unknown.status_code == 404 and "There is no version v9&lt;b&gt;" in unknown.text
    with tab(browser, f"{server.url}/versions/v9.9", wait="h1") as opened:
        for width, scheme in AUDITED:
            opened.show_on(width, scheme)
            opened.assert_accessible()
            opened.assert_fits()
        opened.page.get_by_role("link", name="v1.1", exact=True).click()
        opened.page.locator("#versions h3", has_text="v1.1").first.wait_for()
