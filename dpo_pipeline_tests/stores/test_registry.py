"""What a person finds in MLflow: a run with curves while it is trained, and from a version all it takes to decide.

A real server, and its own pages in Chromium.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dpo_pipeline.core.version_card import CardFacts, CardLinks, description
from dpo_pipeline.ml.reporting import SHOWN
from dpo_pipeline.stores.mlflow_pages import page_of_run
from dpo_pipeline.stores.progress import ProgressFile, read_progress
from dpo_pipeline.stores.registry import EXPERIMENT_KIND, MODEL_TRAINING, Registry
from dpo_pipeline.stores.training_runs import TrainingRun
from dpo_pipeline_tests.assets.conftest import mlflow  # noqa: F401  (fixture)
from dpo_pipeline_tests.browser import chromium, tab
from dpo_pipeline_tests.programs_under_test import eventually

pytestmark = pytest.mark.slow
DESCRIBED = TrainingRun("v1.1", {"beta": 0.1}, {"version": "v1.1"})


@pytest.fixture
def client(mlflow: str) -> Any:  # noqa: F811
    from mlflow import MlflowClient

    return MlflowClient(mlflow)


@pytest.fixture
def registry(mlflow: str, tmp_path: Path) -> Iterator[Registry]:  # noqa: F811
    yield Registry(mlflow, f"chat-{tmp_path.name}", experiment=f"experiment-{tmp_path.name}")


def trained(registry: Registry, folder: Path) -> str:
    """The run of a training that ended."""
    adapter = folder / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text("{}")
    with registry.training_run(DESCRIBED, folder / "progress", "dpo") as opened:
        opened.finish("a" * 64, {}, [{"step": 1, "loss": 0.7}, {"step": 2, "loss": 0.5}], {}, adapter)
    return opened.run_id


def kind(client: Any, registry: Registry) -> str | None:
    found: dict[str, str] = client.get_experiment_by_name(registry.experiment).tags
    return found.get(EXPERIMENT_KIND)


def test_a_new_experiment_says_that_models_are_trained_in_it(registry: Registry, client: Any, tmp_path: Path) -> None:
    trained(registry, tmp_path)
    assert kind(client, registry) == MODEL_TRAINING


@pytest.mark.parametrize(("chosen", "later"), [(None, MODEL_TRAINING), ("genai_development", "genai_development")])
def test_an_older_experiment_is_told_later_unless_somebody_chose(
    chosen: str | None, later: str, registry: Registry, client: Any, tmp_path: Path
) -> None:
    client.create_experiment(registry.experiment, tags={EXPERIMENT_KIND: chosen} if chosen else None)
    trained(registry, tmp_path)
    assert kind(client, registry) == later


@pytest.mark.parametrize(
    ("task", "logged"),
    [
        ("sft", {"loss", "mean_token_accuracy", "learning_rate"}),
        ("dpo", {"loss", "rewards/margins", "rewards/accuracies", "mean_token_accuracy", "learning_rate"}),
    ],
)
def test_its_curves_are_there_while_it_runs(
    task: str, logged: set[str], registry: Registry, client: Any, tmp_path: Path
) -> None:
    with registry.training_run(DESCRIBED, tmp_path, task) as opened:
        ProgressFile(tmp_path, task)(3, 100, {name: 0.5 for name in SHOWN if task == "dpo" or "rewards" not in name})
        run = eventually(lambda: client.get_run(opened.run_id), lambda run: set(run.data.metrics) == logged)
        assert (run.info.status, set(run.data.metrics)) == ("RUNNING", logged)
        assert client.get_metric_history(opened.run_id, "loss")[0].step == 3
        assert run.info.run_name == DESCRIBED.name, "named after our version"
        [told] = read_progress(tmp_path)
        assert told.mlflow_run == opened.run_id, "so the home page leads to it"


def test_from_a_version_everything_is_one_click_away(registry: Registry, client: Any, tmp_path: Path) -> None:
    run_id, page = trained(registry, tmp_path), tmp_path / "v1.1-attempt1.html"
    assert registry.run_pages(run_id).evaluation is None, "it was not evaluated yet"
    page.write_text("<h1>v1.1 against v1.0</h1>")
    registry.log_evaluation(run_id, page, {"verdict": "improved"}, {"win_rate": 0.7})
    facts = CardFacts(
        name="v1.1", parent="v1.0", base_model="embedded", base_sha=None, adapter_sha="a" * 64, dataset_hash=None,
        pairs=100, recipe=None, evaluation=None, trained_at="2026-01-05T10:00:00Z",
    )  # fmt: skip
    pages = registry.run_pages(run_id)
    text = description(facts, CardLinks(pages.evaluation, pages.curves, pages.all_runs))
    number = registry.register(run_id, "a" * 64, {"version": "v1.1"}, text, Path.mkdir)
    with chromium() as browser, tab(browser, registry.url, "body") as opened:
        opened.go(registry.version_url(number))
        for name, shown in (
            ("evaluation: plots", "evaluation/v1.1-attempt1.html"),
            ("training: curves", "loss"),
            ("all trainings", "v1.1"),
        ):
            with opened.page.expect_popup() as beside:
                opened.page.get_by_role("link", name=name).click()
            beside.value.locator("main").get_by_text(shown).first.wait_for()
        assert "/runs?workflowType=machine_learning" in beside.value.url
        opened.go(f"{registry.url}/{page_of_run(run_id)}")
        opened.page.locator("main").get_by_text("loss").first.wait_for()


def test_a_run_that_somebody_deleted_for_good_has_no_pages(registry: Registry, client: Any, tmp_path: Path) -> None:
    run_id = trained(registry, tmp_path)
    assert registry.run_pages(run_id) is not None
    assert registry.run_pages("0" * 32) is None, "the version is described without its links"
