"""A server on which people have voted, before another one that says what the test wants."""

from collections.abc import Iterator

import pytest

from dpo_pipeline.settings import Settings
from dpo_pipeline_tests.examples import settings_in
from dpo_pipeline_tests.programs_under_test import Server, serving
from dpo_pipeline_tests.serving import collected
from dpo_pipeline_tests.serving.pages.desk import KEY, project
from dpo_pipeline_tests.serving.pages.taught import teach
from dpo_pipeline_tests.upstream import Upstream, answered_by


@pytest.fixture(autouse=True)
def answers(models: Upstream) -> None:
    models.say, models.word_s, models.status = lambda model, question: f"You asked: {question}", 0.0, 200


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """People have voted, and v1.1 is at stage canary."""
    made = project(settings_in(tmp_path_factory.mktemp("collected")))
    collected.vote(made)
    teach(made, "v1.1", collected.curate(made))
    collected.roll_out(made)
    collected.join(made)
    return made


@pytest.fixture(scope="module")
def server(settings: Settings, models: Upstream) -> Iterator[Server]:
    with serving(settings.data_dir, **answered_by(models), DPO_KEYS__ADMIN=KEY) as running:
        yield running
