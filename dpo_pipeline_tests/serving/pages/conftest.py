"""A server on which people have voted, before another one that says what the test wants."""

from collections.abc import Iterator

import pytest

from dpo_pipeline.settings import Settings
from dpo_pipeline.stores.ledger import Ledger
from dpo_pipeline_tests.examples import put_version, settings_in
from dpo_pipeline_tests.programs_under_test import Server, serving
from dpo_pipeline_tests.serving import collected
from dpo_pipeline_tests.serving.pages.desk import KEY, project
from dpo_pipeline_tests.upstream import Upstream, answered_by

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
