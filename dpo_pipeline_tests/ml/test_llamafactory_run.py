"""A training by the real LLaMA-Factory, which `make llamafactory` installs; skipped where it is not."""

import json
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from dpo_pipeline.core.dataset import LabelledAnswer, split_pairs, with_labelled
from dpo_pipeline.errors import TaskFailed
from dpo_pipeline.ml import llamafactory, train_process
from dpo_pipeline.ml.adapters import CONFIG, check_adapter
from dpo_pipeline.ml.base_model import locate_base
from dpo_pipeline.ml.llamafactory_trainer import run_llamafactory, write_tokens
from dpo_pipeline.ml.train_process import ProcessJob
from dpo_pipeline.ml.training_job import DpoJob, usable_pairs
from dpo_pipeline.ml.training_plan import write_dataset, write_llamafactory_config
from dpo_pipeline.settings import DpoRecipe, LlamaFactory, Settings
from dpo_pipeline.stores.bank import read_bank
from dpo_pipeline.stores.progress import read_task
from dpo_pipeline_tests.ml.trainings import job, pairs, tensors
from dpo_pipeline_tests.programs_under_test import eventually

COMMAND = LlamaFactory().command
pytestmark = [
    pytest.mark.nightly,
    pytest.mark.skipif(not COMMAND.exists(), reason="LLaMA-Factory is not installed: make llamafactory"),
]
STEPS_OF_KILL = 400

PROMPTS = """
import json, sys, yaml
from llamafactory.data import get_dataset, get_template_and_fix_tokenizer
from llamafactory.hparams import get_train_args
from llamafactory.model import load_tokenizer

model, data, training, _, _ = get_train_args(yaml.safe_load(open(sys.argv[1])))
tokenizer = load_tokenizer(model)
template = get_template_and_fix_tokenizer(tokenizer["tokenizer"], data)
rows = get_dataset(template, model, data, training, stage="rm", **tokenizer)["train_dataset"]
json.dump([[row["chosen_input_ids"], row["chosen_labels"]] for row in rows], open(sys.argv[2], "w"))
"""


@pytest.fixture(scope="module")
def dataset(project: Settings) -> Path:
    return write_dataset(project, split_pairs(pairs(project), frozenset(), 0.15, 8))


def factory_job(project: Settings, baseline: Path, dataset: Path, work: Path, **recipe: Any) -> ProcessJob:
    made = job(project, baseline, dataset, trainer="llamafactory", **recipe)
    assert made.llamafactory_command == str(COMMAND)
    return replace(made, work_dir=str(work))


@pytest.fixture(scope="module")
def trained(project: Settings, baseline: Path, dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return train_process.run(factory_job(project, baseline, dataset, tmp_path_factory.mktemp("factory")))


def test_it_trains_the_start_adapter_into_one_that_passes_our_checks(
    project: Settings, baseline: Path, trained: Any
) -> None:
    directory = Path(trained.adapter_dir)
    manifest = check_adapter(directory, locate_base(project).sha, project.model)
    assert manifest["trainer"] == "llamafactory" and manifest["recipe"]["trainer"] == "llamafactory"
    assert manifest["update_norm"] > 0 and tensors(directory).keys() == tensors(baseline).keys()
    assert (directory / CONFIG).read_bytes() == (baseline / CONFIG).read_bytes()
    assert sorted(path.name for path in directory.iterdir()) == [
        "adapter_config.json", "adapter_model.safetensors", "manifest.json",
    ]  # fmt: skip


def test_it_learns_what_trl_learns_and_tells_it_in_the_same_words(
    project: Settings, baseline: Path, dataset: Path, trained: Any, tmp_path: Path
) -> None:
    by_trl = train_process.run(replace(job(project, baseline, dataset), work_dir=str(tmp_path)))
    assert len(trained.curve) == len(by_trl.curve)
    assert trained.curve[0]["loss"] == pytest.approx(by_trl.curve[0]["loss"], abs=0.02)
    assert trained.metrics.keys() >= {"loss", "rewards/margins", "rewards/accuracies", "rewards/chosen"}
    assert trained.metrics["rewards/margins"] == pytest.approx(by_trl.metrics["rewards/margins"], rel=0.5)
    task = read_task(project.data_dir / "progress", "dpo")
    assert task and task.step == task.total == len(trained.curve)


def test_a_batch_in_parts_is_the_same_training(
    project: Settings, baseline: Path, dataset: Path, trained: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(llamafactory, "SCORES_AT_ONCE", 0)
    recipe = DpoRecipe(**factory_job(project, baseline, dataset, tmp_path).recipe)
    made = DpoJob(locate_base(project), baseline, dataset, recipe, project.model, tmp_path, tmp_path / "reference")
    output, _ = run_llamafactory(made, usable_pairs(made), COMMAND, lambda step, total, metrics: None)
    config = yaml.safe_load((tmp_path / "llamafactory" / "dpo.yaml").read_text())
    assert config["per_device_train_batch_size"] == 1 < config["gradient_accumulation_steps"]
    history = json.loads((output / "trainer_state.json").read_text())["log_history"]
    losses = [row["loss"] for row in history if "loss" in row]
    assert losses == pytest.approx([row["loss"] for row in trained.curve], abs=0.01)


def test_what_it_reads_of_the_exported_texts_stands_behind_the_same_prompts(
    project: Settings, baseline: Path, dataset: Path, tmp_path: Path
) -> None:
    exported = write_llamafactory_config(
        project.model, replace(job(project, baseline, dataset), work_dir=str(tmp_path))
    )
    assert exported and "tokenized_path" not in yaml.safe_load(exported.read_text())
    made = tmp_path / "factory"
    train_process.run(factory_job(project, baseline, dataset, made))
    tokens = made / "llamafactory" / "tokens"
    assert not tokens.exists(), "what people wrote is not left behind"
    job_of = DpoJob(
        locate_base(project), baseline, dataset, project.recipe, project.model, made, made / "reference"
    )  # fmt: skip
    write_tokens(tokens, job_of, usable_pairs(job_of))
    ours, theirs = (
        _what_it_reads(config, tmp_path / f"{name}.json")
        for name, config in (("ours", made / "llamafactory" / "dpo.yaml"), ("theirs", exported))
    )
    assert len(ours) == len(theirs) > 30
    for our, their in zip(ours, theirs, strict=True):
        assert _prompt(*our) == _prompt(*their)


def test_the_exported_kto_runs_unchanged(project: Settings, baseline: Path, tmp_path: Path) -> None:
    questions = read_bank(project.bank_dir)[:24]
    labelled = [
        LabelledAnswer(
            event_id=f"thumb-{n}", prompt=each.question, answer=each.detailed[0], good=n % 3 > 0, source="thumb"
        )
        for n, each in enumerate(questions)
    ]
    split = with_labelled(split_pairs(pairs(project), frozenset(), 0.15, 8), labelled, 0.15)
    data = write_dataset(project, split)
    kto = job(project, baseline, data, objective="kto", epochs=1)
    exported = write_llamafactory_config(project.model, replace(kto, work_dir=str(tmp_path)))
    assert exported and exported.name == "kto.yaml"
    subprocess.run([str(COMMAND), "train", str(exported)], check=True, timeout=300)
    output = Path(yaml.safe_load(exported.read_text())["output_dir"])
    start, made = tensors(baseline), tensors(output)
    assert start.keys() == made.keys() and any((start[name] != made[name]).any() for name in start)
    history = json.loads((output / "trainer_state.json").read_text())["log_history"]
    assert {"rewards/chosen", "rewards/rejected"} <= {name for row in history for name in row}


def _what_it_reads(config: Path, target: Path) -> list[tuple[list[int], list[int]]]:
    script = target.with_suffix(".py")
    script.write_text(PROMPTS)
    subprocess.run([str(COMMAND.parent / "python"), str(script), str(config), str(target)], check=True, timeout=300)
    return [tuple(row) for row in json.loads(target.read_text())]


def _prompt(ids: list[int], labels: list[int]) -> list[int]:
    return ids[: sum(label == -100 for label in labels)]


def test_killed_it_goes_on_from_its_last_checkpoint(
    project: Settings, baseline: Path, dataset: Path, tmp_path: Path
) -> None:
    made = factory_job(project, baseline, dataset, tmp_path / "work", epochs=STEPS_OF_KILL * 8 / 40)
    file = made.write(tmp_path / "job.json")
    ours = subprocess.Popen([sys.executable, "-m", "dpo_pipeline.ml.train_process", str(file)])
    output = Path(made.work_dir) / "llamafactory" / "output"
    deadline = time.monotonic() + 300
    while not any(output.glob("checkpoint-*/trainer_state.json")):
        assert time.monotonic() < deadline and ours.poll() is None
        time.sleep(0.1)
    ours.send_signal(signal.SIGKILL)
    ours.wait()
    assert eventually(lambda: _trainers_of(tmp_path), lambda left: not left) == [], "it ends with us"
    result = train_process.run(made)
    assert 0 < result.facts["resumed_from_step"] < len(result.curve)
    assert len(result.curve) == pytest.approx(STEPS_OF_KILL, rel=0.05)


def test_what_it_says_when_it_fails_is_in_the_error(
    project: Settings, baseline: Path, dataset: Path, tmp_path: Path
) -> None:
    made = factory_job(project, baseline, dataset, tmp_path)
    (tmp_path / "llamafactory").mkdir()
    (tmp_path / "llamafactory" / "output").write_text("a file where a folder belongs")
    with pytest.raises(TaskFailed, match="output"):
        train_process.run(made)


def _trainers_of(folder: Path) -> list[int]:
    found = subprocess.run(["pgrep", "-f", str(folder / "work" / "llamafactory" / "dpo.yaml")], capture_output=True)
    return [int(line) for line in found.stdout.split()]
