"""Preferences are read, kept, excluded and restored in a browser."""

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from dpo_pipeline.settings import Settings
from dpo_pipeline.stores.reviews import ReviewLog, read_validated_pairs
from dpo_pipeline_tests.browser import Tab, choose, primary
from dpo_pipeline_tests.examples import settings_in
from dpo_pipeline_tests.programs_under_test import Server, eventually, serving
from dpo_pipeline_tests.serving import collected
from dpo_pipeline_tests.serving.pages.desk import KEY, at, project, told
from dpo_pipeline_tests.upstream import Upstream, answered_by

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = [pytest.mark.slow, pytest.mark.browser]


def test_preferences_are_browsed_filtered_and_read(browser: "Browser", server: Server, settings: Settings) -> None:
    pairs = list(read_validated_pairs(settings.review_table))
    with at(browser, server, "review") as opened:
        page = opened.page
        count = page.inner_text("#review-count")
        assert f"{len(pairs)} of the newest {len(pairs)} validated preferences, page 1 of" in count
        assert f"0 of {len(pairs)} reviewed" in count
        listed = page.inner_text("#review-list")
        assert "chosen answer not more detailed" in listed or "tie or both bad" in listed
        assert "_" not in listed, "criteria are said in words"
        assert re.search(r"\d\d \w{3} 20\d\d \d\d:\d\d:\d\d UTC by", page.inner_text("#review-pair"))
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
        asked = [server.client.get("/v1/preferences", params={name: "rejected"}) for name in ("result", "verdict")]
        assert asked[0].raise_for_status().text == asked[1].text != "", "the former name is taken too"
        second = fits[1]
        page.locator("#review-list input").nth(0).focus()
        page.keyboard.press("Tab")
        page.keyboard.press("Space")
        page.locator("#review-pair", has_text=second.event_id).wait_for()
        read = page.inner_text("#review-pair")
        assert second.response_a in read and second.response_b in read and second.prompt in read
        page.get_by_text("Words that differ").click()
        differ = page.locator("#review-pair details[open] .sides section")
        assert differ.count() == 2 and differ.locator("mark").count() > 0
        page.get_by_label("Text").fill("no such words anywhere")
        page.get_by_text("Nothing matches these filters").wait_for()
        page.get_by_label("Text").fill("")
        page.get_by_text(f"{len(fits)} of the newest").wait_for()
        page.get_by_role("button", name="Older").click() if len(fits) > 10 else None
        opened.assert_clean()


def test_a_preference_is_excluded_and_restored_with_a_reason_behind_the_key(
    browser: "Browser", server: Server, settings: Settings
) -> None:
    log, before = ReviewLog(settings.reviews_log), list(read_validated_pairs(settings.review_table))
    chosen = next(pair for pair in before if not pair.valid)  # the queue begins with it
    prefs = settings.prefs_log.read_bytes()
    with at(browser, server, "review") as opened:
        page = opened.page
        assert primary(opened) == ["Looks right"]
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
        page.reload()
        page.get_by_text(f"1 of {len(before)} reviewed").wait_for()
        by_key(page, log, settings.review_table)
        collected.curate(settings)
        page.reload()
        many_at_once(opened, settings)
    collected.curate(settings)
    assert list(read_validated_pairs(settings.review_table)) == before
    assert settings.prefs_log.read_bytes() == prefs, "the votes themselves are never touched"


def by_key(page: Any, log: ReviewLog, table: Path) -> None:
    """J and K move, E excludes, U undoes; the pair it was about stays on screen, beside what the team agreed on."""
    log.path.with_name("guidelines.md").write_text("Prefer **short** answers.")
    page.reload()
    page.get_by_text("Guidelines of the team").click()
    page.get_by_text("Prefer short answers.").wait_for()
    choose(page, "#filter-source", "A/B test page")
    page.get_by_label("valid", exact=True).check()
    pairs = page.locator("#review-list input")
    fits = sum(pair.valid and pair.source == "ui" for pair in read_validated_pairs(table))
    page.get_by_text(f"{fits} of the newest").wait_for()
    page.locator("#review-list input:checked").wait_for()
    before = page.inner_text("#review-pair")
    page.locator("#review-pair h2").first.click()
    page.keyboard.press("j")
    expect_checked(pairs, 1)
    page.keyboard.press("k")
    expect_checked(pairs, 0)
    page.keyboard.press("e")
    assert page.evaluate("document.activeElement.closest('#reason') !== null"), "a reason comes first"
    page.keyboard.type("a joke")
    page.fill("#key input", KEY)
    page.locator("#review-pair h2").first.click()
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
    page.get_by_text(f"Exclude {len(fits)} pairs: all that match the filters").wait_for()
    assert primary(opened) == [], "the red one is"
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


def test_what_looks_right_is_marked_and_leaves_the_head_of_the_queue(
    browser: "Browser", server: Server, settings: Settings
) -> None:
    log = ReviewLog(settings.reviews_log)
    with at(browser, server, "review", width=390, scheme="dark") as opened:
        page = opened.page
        read, others = (page.locator(part).bounding_box() for part in ("#review-pair", "#review-list"))
        assert read and others and read["y"] < 900 and read["y"] < others["y"], "on a phone the pair comes first"
        opened.assert_fits()
        opened.assert_accessible()
        page.fill("#key input", KEY)
        first = page.inner_text("#review-pair")
        page.get_by_role("button", name="Next pair").click()
        page.wait_for_function("first => document.querySelector('#review-pair').innerText !== first", arg=first)
        page.get_by_role("button", name="Looks right").click()
        told(opened, "Reviewed. It stays as it is in datasets")
        page.locator("#review-pair .chip", has_text="reviewed").wait_for()
        page.get_by_role("button", name="Looks right").wait_for(state="hidden")
        event = re.search(r"evt-\S+", page.inner_text("#review-pair"))
        assert event
        page.get_by_role("link", name="Filters").click()
        choose(page, "#filter-review", "reviewed")
        page.locator("#review-list label", has_text="· reviewed").first.wait_for()
        opened.assert_clean()
    review = log.newest()[event.group()]
    assert (review.action, review.reason, review.actor) == ("keep", "looks right", "admin")
    assert event.group() not in log.taken_out()


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
