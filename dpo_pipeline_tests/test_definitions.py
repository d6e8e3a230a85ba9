"""The loop as Dagster sees it: names, groups, partitions, jobs and sensors, as the guide tells them."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dagster as dg
import pytest

from dpo_pipeline.assets import partitions
from dpo_pipeline.assets.training_config import TrainingConfig
from dpo_pipeline.automation.jobs import FREQUENT, JOBS, KIND, OFTEN
from dpo_pipeline.automation.sensors import inputs_changed
from dpo_pipeline.definitions import defs
from dpo_pipeline.settings import PROJECT_DIR, DpoRecipe

SOURCES = {"vote_log", "serving_log"}
GRAPH = {
    "vote_log": ("logs", False, set()),
    "serving_log": ("logs", False, set()),
    "preferences": ("collection", False, {"vote_log"}),
    "validated_pairs": ("curation", False, {"preferences"}),
    "base_model": ("training", False, set()),
    "sft_adapter": ("training", False, {"base_model"}),
    "synthetic_pairs": ("training", False, {"sft_adapter"}),
    "dpo_dataset": ("training", True, {"validated_pairs", "labelled_answers", "synthetic_pairs"}),
    "trained_adapter": ("training", True, {"dpo_dataset", "sft_adapter"}),
    "eval_report": ("evaluation", True, {"trained_adapter"}),
    "model_version": ("deployment", True, {"eval_report", "sft_adapter"}),
    "rollout_decision": ("deployment", True, {"model_version"}),
    "requests": ("collection", False, {"serving_log"}),
    "feedback": ("collection", False, {"serving_log"}),
    "labelled_answers": ("curation", False, {"feedback", "preferences"}),
    "leaderboard": ("evaluation", False, {"validated_pairs"}),
    "monitoring_report": ("monitoring", False, {"validated_pairs", "requests"}),
    "improvement_trajectory": ("monitoring", False, {"validated_pairs", "requests"}),
}


def specs() -> dict[str, dg.AssetSpec]:
    return {spec.key.to_user_string(): spec for spec in defs.resolve_all_asset_specs()}


def test_the_asset_graph() -> None:
    found = {
        name: (
            spec.group_name,
            spec.partitions_def is not None,
            {dep.asset_key.to_user_string() for dep in spec.deps},
        )
        for name, spec in specs().items()
    }
    assert found == GRAPH


def test_no_group_points_back_at_an_earlier_one() -> None:
    order = ["logs", "collection", "curation", "training", "evaluation", "deployment", "monitoring"]
    for name, (group, _, deps) in GRAPH.items():
        assert all(order.index(GRAPH[dep][0]) <= order.index(group) for dep in deps), name


def test_a_code_version_follows_the_code_and_not_its_comments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = tmp_path / "decided.py"
    monkeypatch.setattr(partitions, "find_spec", lambda name: SimpleNamespace(origin=str(module)))

    def version_of(text: str) -> str:
        module.write_text(text)
        partitions._syntax.cache_clear()
        return partitions.code_version("decided")

    first = version_of("LIMIT = 3\n")
    assert version_of('"""Says what it is."""\n\n# Why three.\nLIMIT  = 3\n"""A text below."""\n') == first
    assert version_of("LIMIT = 4\n") != first


@pytest.mark.parametrize("name", sorted(GRAPH))
def test_every_asset_can_be_understood_in_the_ui(name: str) -> None:
    spec = specs()[name]
    assert spec.description and spec.kinds
    assert name in SOURCES or (spec.owners and spec.code_version)


def test_jobs_and_sensors() -> None:
    repository = defs.get_repository_def()
    jobs = {job.name for job in repository.get_all_jobs() if not job.name.startswith("__")}
    assert jobs == {
        "build_baseline", "ingest_and_validate", "train_version", "decide_rollout", "register_version", "alert_people",
        "write_report", "remind_people", "follow_registry", "give_up_version",
        "make_synthetic_pairs", "tidy_up",
    }  # fmt: skip
    assert all(each.default_status == dg.DefaultScheduleStatus.RUNNING for each in repository.schedule_defs)
    sensors = {sensor.name: sensor for sensor in repository.sensor_defs}
    assert set(sensors) == {
        "baseline_missing",
        "new_votes",
        "threshold_crossed",
        "not_improved",
        "attempts_spent",
        "unfinished_version",
        "stage_due",
        "registration_lost",
        "registry_changed",
        "inputs_changed",
    }
    assert all(s.default_status == dg.DefaultSensorStatus.RUNNING for s in sensors.values())


def test_every_run_says_what_kind_of_work_it_is_and_whether_it_is_one_of_many() -> None:
    """However it is started: by a sensor, a schedule or a person."""
    jobs = [job for job in defs.get_repository_def().get_all_jobs() if not job.name.startswith("__")]
    guide = (PROJECT_DIR / "docs" / "guide" / "operating.md").read_text()
    assert all(f"`{job.tags[KIND]}`" in guide for job in jobs)
    assert {job.name for job in jobs if job.tags[FREQUENT] == "yes"} == set(OFTEN)
    assert [job.name for job in jobs if job.tags[KIND] == "ingest"] == ["ingest_and_validate"]
    assert (inputs_changed.run_tags[KIND], inputs_changed.run_tags[FREQUENT]) == ("follow", "yes")


def test_improved_blocks_what_comes_after_it() -> None:
    graph = defs.resolve_asset_graph()
    checks = {key.name: graph.get_check_spec(key) for key in graph.asset_check_keys}
    assert checks["improved"].blocking
    assert set(checks) == {"improved", "category_coverage", "duplicates", "rejected_share", "position_bias"}


def launchpad(job: str) -> dict[str, Any]:
    """Every field that the launchpad of a job offers of our own, by its path."""
    found: dict[str, Any] = {}

    def note(path: str, shape: Any) -> None:
        for name, field in getattr(shape, "fields", {}).items():
            where = f"{path}.{name}".lstrip(".")
            found[where] = field
            note(where, field.config_type)

    root = defs.resolve_job_def(job).run_config_schema.config_type
    for part in ("ops", "resources"):
        note(part, root.fields[part].config_type)  # type: ignore[attr-defined]
    return found


@pytest.mark.parametrize("job", [job.name for job in JOBS])
def test_no_launchpad_offers_a_path_or_a_secret(job: str) -> None:
    assert [path for path in launchpad(job) if path.startswith("resources.") and ".config." in path] == []


def test_the_launchpad_of_a_training_has_every_hyperparameter_with_its_type_and_what_it_is() -> None:
    recipe = "ops.trained_adapter.config.recipe."
    fields = {
        path.removeprefix(recipe): field
        for path, field in launchpad("train_version").items()
        if path.startswith(recipe)
    }
    assert list(fields) == list(DpoRecipe.model_fields)
    assert all(field.description and not field.is_required for field in fields.values())
    given = {name: field.config_type.kind.value for name, field in fields.items()}
    assert given["objective"] == "ENUM" and "ANY" not in given.values()
    week = launchpad("write_report")["ops.monitoring_report.config.week"]
    assert week.description and week.config_type.kind.value == "ENUM"


@pytest.mark.parametrize(
    ("given", "changed"),
    [
        ({}, {}),
        ({"recipe": {"beta": 0.2, "objective": "kto"}}, {"objective": "kto", "beta": 0.2}),
        ({"recipe": {"loss_type": ["sigmoid"], "loss_weights": []}}, {"loss_type": ["sigmoid"], "loss_weights": None}),
    ],
)
def test_what_is_not_set_in_the_launchpad_stays_as_it_is_due(given: dict[str, Any], changed: dict[str, Any]) -> None:
    assert TrainingConfig(**given).changed() == changed
    assert DpoRecipe(**{**DpoRecipe().model_dump(), **changed})
