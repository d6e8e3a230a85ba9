"""The page in a browser, before a server whose two versions answer at once what is in the bank."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from dpo_pipeline.settings import Settings
from dpo_pipeline.stores.bank import read_bank
from dpo_pipeline_tests.browser import Tab
from dpo_pipeline_tests.examples import settings_in
from dpo_pipeline_tests.programs_under_test import Server, serving
from dpo_pipeline_tests.serving.ab_page.desk import at_desk, install, variables
from dpo_pipeline_tests.upstream import Upstream

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@pytest.fixture(autouse=True)
def as_in_the_bank(models: Upstream) -> None:
    """v1.0 is terse, v1.1 tells more; no waiting."""
    bank = {question.question: question for question in read_bank(settings_in(Path("unused")).bank_dir)}

    def say(model: str, asked: str) -> str:
        question = bank.get(asked)
        if question is None:
            return "Short." if model == "v1.0" else "A longer answer. It has two sentences."
        return question.terse[0] if model == "v1.0" else question.detailed[0]

    models.say, models.word_s, models.status = say, 0.0, 200


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    made = settings_in(tmp_path_factory.mktemp("pages"))
    install(made)
    return made


@pytest.fixture(scope="module")
def server(settings: Settings, models: Upstream) -> Iterator[Server]:
    with serving(settings.data_dir, **variables(models)) as running:
        yield running


@pytest.fixture
def desk(browser: "Browser", server: Server) -> Iterator[Tab]:
    """The page as a person finds it, and at the end: nothing went wrong in the browser."""
    with at_desk(browser, server) as opened:
        yield opened
        opened.assert_clean()
