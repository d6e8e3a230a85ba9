"""LLaMA-Factory as the trainer: what it cannot do, and what is read of it while it runs."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from pydantic import ValidationError

from dpo_pipeline.errors import ModelUnavailable, SettingsError, TrainingDiverged
from dpo_pipeline.ml.llamafactory import pairs_at_once, write_config
from dpo_pipeline.ml.llamafactory_output import curve_follower, last_checkpoint
from dpo_pipeline.ml.llamafactory_trainer import alone, find_command
from dpo_pipeline.settings import DpoRecipe, ModelSettings, load_settings


@pytest.mark.parametrize(
    "recipe",
    [
        {"loss_type": ("robust",)},
        {"loss_type": ("sft", "sigmoid")},
        {"loss_type": ("sigmoid", "sft"), "loss_weights": (0.5, 1.0)},
        {"loss_type": ("sigmoid", "sft", "sft"), "loss_weights": (1.0, 0.5, 0.5)},
    ],
)
def test_a_loss_that_llamafactory_has_not_is_refused_before_anything_starts(recipe: dict[str, object]) -> None:
    assert DpoRecipe.model_validate(recipe).trainer == "trl"
    with pytest.raises(ValidationError, match="sigmoid, hinge, ipo with weight 1"):
        DpoRecipe.model_validate({"trainer": "llamafactory", **recipe})
    assert DpoRecipe(trainer="llamafactory", loss_type=("ipo", "sft"), loss_weights=(1.0, 0.2))


def test_settings_name_the_loss_that_the_trainer_has_not(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"RECIPE.*has no loss_type"):
        load_settings(
            data_dir=tmp_path, recipe={"trainer": "llamafactory", "loss_type": ("robust",), "loss_weights": None}
        )


@pytest.mark.parametrize(
    ("batch", "tokens", "vocabulary", "parts"),
    [(16, 256, 2_048, 16), (8, 256, 262_144, 2), (8, 512, 262_144, 1), (4, 1_024, 151_936, 1), (9, 256, 65_536, 3)],
)
def test_of_a_large_vocabulary_a_batch_is_taken_in_equal_parts(
    batch: int, tokens: int, vocabulary: int, parts: int
) -> None:
    assert pairs_at_once(batch, tokens, vocabulary) == parts


@pytest.mark.parametrize("described", [{"vocab_size": 262_144}, {"text_config": {"vocab_size": 262_144}}])
def test_parts_of_a_batch_are_summed_up_to_its_step(tmp_path: Path, described: dict[str, object]) -> None:
    (tmp_path / "config.json").write_text(json.dumps(described))
    recipe, model = DpoRecipe(batch_size=8, gradient_accumulation=2), ModelSettings(max_length=512)
    told = write_config(tmp_path, recipe, model, str(tmp_path), "start", "data", 100, "output")
    assert (told["per_device_train_batch_size"], told["gradient_accumulation_steps"]) == (1, 16)
    kto = write_config(
        tmp_path, recipe.model_copy(update={"objective": "kto"}), model, str(tmp_path), "start", "data", 100, "output"
    )
    assert (kto["per_device_train_batch_size"], kto["gradient_accumulation_steps"]) == (16, 2)


def test_without_the_program_it_is_said_what_to_do(tmp_path: Path) -> None:
    for missing in (tmp_path / "llamafactory-cli", tmp_path):
        with pytest.raises(ModelUnavailable, match="make llamafactory"):
            find_command(missing)
    assert find_command(Path(sys.executable)) == Path(sys.executable)
    assert find_command(Path("sh")).is_absolute(), "by its name, where it is on the path"


def test_the_curve_is_read_while_it_is_written(tmp_path: Path) -> None:
    path, told = tmp_path / "trainer_log.jsonl", []
    follow = curve_follower(path, lambda step, total, metrics: told.append((step, total, metrics)))
    follow()
    first = json.dumps({"current_steps": 1, "total_steps": 3, "loss": 0.69, "accuracy": 0.5, "lr": 1e-5})
    path.write_text(first + "\n" + '{"current_steps": 2, "tot')
    follow()
    follow()
    assert told == [(1, 3, {"loss": 0.69, "rewards/accuracies": 0.5, "learning_rate": 1e-5})]
    path.write_text(first + "\n" + json.dumps({"current_steps": 2, "total_steps": 3, "loss": 0.6}) + "\n")
    follow()
    assert [step for step, *_ in told] == [1, 2]
    path.write_text(first + "\n")  # by a second start, which writes it from the beginning
    follow()
    assert [step for step, *_ in told] == [1, 2, 1]


def test_what_an_earlier_start_reported_is_not_told_again(tmp_path: Path) -> None:
    path, told = tmp_path / "trainer_log.jsonl", []
    path.write_text(json.dumps({"current_steps": 1, "total_steps": 3, "loss": 0.69}) + "\n")
    follow = curve_follower(path, lambda step, total, metrics: told.append(step), path.stat().st_size)
    with path.open("a") as file:
        file.write(json.dumps({"current_steps": 2, "total_steps": 3, "loss": 0.6}) + "\n")
    follow()
    assert told == [2]


def test_a_loss_that_is_no_number_ends_the_training(tmp_path: Path) -> None:
    path = tmp_path / "trainer_log.jsonl"
    path.write_text('{"current_steps": 4, "total_steps": 9, "loss": NaN}\n')
    with pytest.raises(TrainingDiverged, match="nan at step 4"):
        curve_follower(path, lambda step, total, metrics: None)()


def test_a_start_waits_for_the_program_that_an_earlier_one_left_behind(tmp_path: Path) -> None:
    with alone(tmp_path) as lock:
        left = subprocess.Popen(["sleep", "0.5"], pass_fds=[lock])
    begun = time.monotonic()
    with alone(tmp_path):
        assert time.monotonic() - begun > 0.3, "it holds the lock until it ends"
    assert left.wait(timeout=5) == 0


def test_half_checkpoints_are_not_gone_on_from(tmp_path: Path) -> None:
    assert last_checkpoint(tmp_path) is None
    for step, state in ((5, '{"global_step": 5}'), (25, '{"global_step": 25}'), (30, '{"global'), (35, None)):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        if state:
            (folder / "trainer_state.json").write_text(state)
    assert last_checkpoint(tmp_path) == tmp_path / "checkpoint-25"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-25", "checkpoint-5"]
