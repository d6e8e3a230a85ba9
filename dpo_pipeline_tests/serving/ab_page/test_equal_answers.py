"""Two answers in the same words are nothing to vote on: a drawn question gives way to another, or it is said so."""

import pytest

from dpo_pipeline_tests.browser import Tab
from dpo_pipeline_tests.programs_under_test import Server
from dpo_pipeline_tests.serving.ab_page.desk import READY, answer, ask, counted, ready, text
from dpo_pipeline_tests.upstream import Upstream

pytestmark = [pytest.mark.slow, pytest.mark.browser]


def test_a_drawn_question_whose_answers_stay_equal_gives_way_to_another(
    desk: Tab, server: Server, models: Upstream
) -> None:
    alike: list[str] = []

    def say(model: str, asked: str) -> str:
        """The first two questions are answered alike, however often they are asked."""
        if len(alike) < 2 and asked not in alike:
            alike.append(asked)
        return "The same." if asked in alike else counted(model, asked)

    models.say = say
    shown = server.client.get("/v1/comparisons/next").raise_for_status().json()
    assert len(alike) == 2 and shown["prompt"] not in alike and len(set(shown["answers"].values())) == 2
    alike.clear()
    desk.page.click("#ab-generate")
    ready(desk)
    assert len(alike) == 2 and not any(each in text(desk, "#ab-question") for each in alike)
    assert answer(desk, "left") != answer(desk, "right")
    alike.clear()
    ask(desk, "Why is it so?")  # what somebody asks themselves is answered, also alike
    desk.page.locator("#ab-card-left", has_text="The same.").wait_for()
    assert "Why is it so?" in alike and answer(desk, "right") == "The same."


def test_two_equal_answers_are_never_shown_to_a_drawn_question(desk: Tab, server: Server, models: Upstream) -> None:
    models.say = lambda model, asked: "The same."
    refused = server.client.get("/v1/comparisons/next")
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "equal_answers"), refused.text
    assert "the same answer twice to each of 4 questions" in refused.text and refused.headers["retry-after"] == "5"
    desk.page.click("#ab-generate")
    desk.page.get_by_text("there is nothing to choose between").wait_for()
    assert not desk.page.query_selector(READY)
    ask(desk, "Why is it so?")
    desk.page.locator("#ab-card-right", has_text="The same.").wait_for()
