"""The page of a version, whatever leads to it, and the reports that it leads to."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import msgspec
import pytest

from dpo_pipeline.core.dataset import Pair, Split
from dpo_pipeline.core.judged_examples import JudgedExamples
from dpo_pipeline.core.trajectory import Trajectory, VersionFigures
from dpo_pipeline.core.verdict import JudgedAnswer, evaluate
from dpo_pipeline.core.votes import decode_preference
from dpo_pipeline.core.winrate import WinRate
from dpo_pipeline.ml.training_plan import write_dataset
from dpo_pipeline.reports.evaluation_page import evaluation_page
from dpo_pipeline.reports.monitoring_page import trajectory_page
from dpo_pipeline.settings import Settings
from dpo_pipeline.stores.artifacts import write_text
from dpo_pipeline.stores.ledger import Ledger
from dpo_pipeline_tests.browser import AUDITED, Tab, tab
from dpo_pipeline_tests.examples import put_version
from dpo_pipeline_tests.programs_under_test import Server
from dpo_pipeline_tests.serving import collected
from dpo_pipeline_tests.serving.pages.desk import at, vote_as
from dpo_pipeline_tests.serving.pages.taught import examples

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = [pytest.mark.slow, pytest.mark.browser]


def test_a_version_has_a_page_that_others_lead_to(browser: "Browser", server: Server, settings: Settings) -> None:
    kept = settings.reports_dir / "evaluation" / "v1.1-attempt1.json"
    examples = msgspec.json.decode(kept.read_bytes(), type=JudgedExamples)
    attacked = JudgedAnswer(
        "Why do cats purr?", "factual_qa", "win", f"They are content. {collected.ATTACK}", "They are cats."
    )
    write_text(kept, msgspec.json.encode(replace(examples, won=(attacked, *examples.won[1:]))).decode())
    with at(browser, server, "leaderboard") as opened:
        opened.page.locator("#leaderboard").get_by_role("link", name="v1.1", exact=True).first.click()
        opened.page.wait_for_url("**/versions?name=v1.1")
        shown = opened.page.locator("#versions")
        shown.locator("h2", has_text="v1.1").wait_for()
        told = shown.inner_text()
        for words in ("so that length alone may explain it", "longer answers and nothing else", "rolling out",
                      "PeftModel.from_pretrained", "job execute", str(settings.artifacts_dir / "base/embedded-"),
                      f"DPO_DATA_DIR={settings.data_dir}", "Votes through the API", "It comes from 7 people.",
                      "accuracy 87%"):  # fmt: skip
            assert words in told
        assert "None" not in told and shown.locator(".curve").count() == 3
        assert "staging" in shown.locator(".timeline").inner_text()
        shown.get_by_text("Why do cats purr?").click()
        opened_one = shown.locator("details[open]")
        opened_one.get_by_text("Words that differ").click()
        sides = opened_one.locator("details .sides section")
        assert sides.nth(1).locator("mark").all_inner_texts() == ["cats."] and "content." in sides.nth(0).inner_text()
        assert opened.page.title() != "hit"
        opened.assert_accessible()
        shown.get_by_role("link", name="The whole evaluation").click()
        opened.page.get_by_text("the whole evaluation").wait_for()
        opened.go(f"{server.url}/versions?name=v9.9")
        opened.page.get_by_text("This cannot be shown").wait_for()
    assert httpx.get(f"{server.url}/v1/versions/v1.0/evaluation").json()["error"]["code"] == "not_evaluated"
    for name in ("*", "v1.*", "..%2f..%2fledger"):
        assert httpx.get(f"{server.url}/v1/versions/{name}/evaluation").status_code == 404


def test_card_and_evaluation_can_be_taken_along(browser: "Browser", server: Server, settings: Settings) -> None:
    with tab(browser, f"{server.url}/versions/v1.1", wait="#versions .figures") as opened:
        kept = {}
        for link, name in (("The model card", "chat-v1.1.md"), ("The evaluation, as a file", "v1.1-evaluation.html")):
            with opened.page.expect_download() as download:
                opened.page.get_by_role("link", name=link).click()
            assert download.value.suggested_filename == name
            kept[name] = Path(download.value.path()).read_text()
    assert kept["chat-v1.1.md"].startswith("---\nbase_model: embedded\n") and "# v1.1" in kept["chat-v1.1.md"]
    assert "the whole evaluation" in kept["v1.1-evaluation.html"]
    answer = httpx.get(f"{server.url}/v1/versions/chat-v1.1/card")
    assert answer.headers["content-type"] == "text/markdown; charset=utf-8"
    unknown = httpx.get(f"{server.url}/v1/versions/v9.9/card")
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "model_not_found")


def test_whoever_looks_sees_how_many_votes_are_theirs(browser: "Browser", server: Server, settings: Settings) -> None:
    with at(browser, server, "contributors") as opened:
        vote_as(opened, server)
        mine = decode_preference(settings.prefs_log.read_bytes().splitlines()[-1])
        values = {"prompt": "q", "chosen": "a", "rejected": "b", "category": "other", "source": "ui"}
        split = Split((Pair(event_id=mine.event_id, **values),), (), {}, "c" * 64)
        write_dataset(settings, split)
        with Ledger(settings.ledger_address) as ledger:
            put_version(ledger, "v1.2", parent="v1.0", dataset_hash=split.content_hash, pairs=1)
        opened.go(f"{server.url}/versions/v1.2")
        opened.page.get_by_text("It comes from 1 person. 1 vote of yours taught it.").wait_for()
        opened.assert_clean()
    with tab(browser, f"{server.url}/versions/v1.2", wait="#versions .figures") as other:
        other.page.get_by_text("It comes from 1 person.", exact=True).wait_for()


def test_reports_can_be_read_on_every_screen(browser: "Browser", server: Server, settings: Settings) -> None:
    """Before the first one is written, as they are then, and as a version's evaluation is."""
    with tab(browser, f"{server.url}/reports/weekly", wait="h1") as opened:
        opened.page.get_by_text("It is not written yet").wait_for()
        can_be_read(opened)
    assert httpx.get(f"{server.url}/reports/../ledger").status_code == 404
    rate = WinRate(30, 10, 0, 0.75, 0.6, 0.86, 12)
    versions = VersionFigures("v1.0", "retired"), VersionFigures("v1.1", "champion", 4.2, 9, rate)
    write_text(settings.report_page("trajectory"), trajectory_page(Trajectory(versions, (), "Better.")))
    answers = examples(settings)
    verdict = evaluate([*answers.won, *answers.lost], settings.evaluation)
    evaluated = evaluation_page("v1.1", "v1.0", verdict, [*answers.won, *answers.lost], None)
    write_text(settings.reports_dir / "evaluation" / "v1.1-attempt1.html", evaluated)
    with at(browser, server, "versions") as opened:
        opened.page.get_by_role("link", name="The trajectory of the versions").click()
        opened.page.locator("h1", has_text="The trajectory").wait_for()
        can_be_read(opened)
        opened.page.get_by_role("link", name="The loop, live").click()
        opened.page.locator("#loop .strip").wait_for()
        opened.page.get_by_role("link", name="The weekly report").wait_for()
        opened.go(f"{server.url}/v1/versions/v1.1/evaluation")
        opened.page.locator("details summary").first.click()
        opened.page.get_by_text("Words that differ").first.click()
        can_be_read(opened)
        opened.page.get_by_role("link", name="The page of v1.1").click()
        opened.page.locator("#versions h2", has_text="v1.1").first.wait_for()


def can_be_read(opened: Tab) -> None:
    for width, scheme in AUDITED:
        opened.show_on(width, scheme)
        opened.page.screenshot()
        opened.assert_accessible()
        opened.assert_fits()
    opened.show_on(1440, "light")
    opened.assert_clean()


def test_every_version_has_an_address(browser: "Browser", server: Server) -> None:
    with tab(browser, f"{server.url}/versions/v1.1", wait="#versions .figures") as opened:
        opened.page.locator("#versions h2", has_text="v1.1").first.wait_for()
        assert opened.page.title() == "v1.1 · LLMOps Loop", "two tabs are told apart"
        opened.assert_clean()
    assert httpx.get(f"{server.url}/versions/chat-v1.1").headers["location"] == "/versions?name=v1.1"
    unknown = httpx.get(f"{server.url}/versions/v9<b>")
    assert unknown.status_code == 404 and "There is no version v9&lt;b&gt;" in unknown.text
    with tab(browser, f"{server.url}/versions/v9.9", wait="h1") as opened:
        opened.errors.clear()  # Chromium notes the 404
        can_be_read(opened)
        opened.page.get_by_role("link", name="v1.1", exact=True).click()
        opened.page.locator("#versions h2", has_text="v1.1").first.wait_for()
