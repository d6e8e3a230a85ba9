"""DPO for real on a tiny model: weights move, the reference is right, kills are survived, bad adapters refused."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dpo_pipeline.core.dataset import Pair, split_pairs
from dpo_pipeline.errors import AdapterRefused, ArtifactCorrupt, DatasetTooSmall, TrainingDiverged
from dpo_pipeline.ml import dpo
from dpo_pipeline.ml.adapters import WEIGHTS, check_adapter, check_weights
from dpo_pipeline.ml.base_model import locate_base
from dpo_pipeline.ml.compute import Compute, goes_row_by_row, keeps_row
from dpo_pipeline.ml.generation import GenerationRequest, Generator
from dpo_pipeline.ml.reporting import SHOWN
from dpo_pipeline.ml.sft import demonstration
from dpo_pipeline.ml.train_process import run
from dpo_pipeline.ml.training_plan import dpo_job, sft_job, sft_round_job, write_dataset, write_llamafactory_config
from dpo_pipeline.settings import Settings
from dpo_pipeline.stores import artifacts
from dpo_pipeline.stores.bank import held_out_texts, read_bank
from dpo_pipeline_tests.examples import settings_in
from dpo_pipeline_tests.ml.trainings import job, pairs, tensors

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def dataset(project: Settings) -> Path:
    return write_dataset(project, split_pairs(pairs(project), frozenset(), 0.15, 8))


@pytest.fixture(scope="module")
def trained(project: Settings, baseline: Path, dataset: Path) -> Any:
    return run(job(project, baseline, dataset))


def test_row_by_row_it_is_the_same_training(
    project: Settings, baseline: Path, dataset: Path, trained: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dpo, "goes_row_by_row", lambda model, compute: True)
    again = run(replace(job(project, baseline, dataset), work_dir=str(tmp_path), reference_cache=str(tmp_path)))
    ours, theirs = ([row["loss"] for row in each.curve] for each in (again, trained))
    assert ours == pytest.approx(theirs, abs=0.01)
    assert again.metrics["rewards/margins"] == pytest.approx(trained.metrics["rewards/margins"], abs=0.02)


@pytest.mark.parametrize(("tokens", "gigabytes", "kept"), [(1_024, 24, True), (1_024, 4, False), (16_384, 24, False)])
def test_what_a_row_needs_is_kept_where_there_is_memory_for_it(tokens: int, gigabytes: int, kept: bool) -> None:
    import torch
    from transformers import AutoModelForCausalLM, Gemma3TextConfig

    with torch.device("meta"):  # without its weights
        shape = Gemma3TextConfig(num_hidden_layers=18, hidden_size=640, intermediate_size=2_048)
        model = AutoModelForCausalLM.from_config(shape, dtype=torch.bfloat16)
    on_processor = Compute("cpu", "bfloat16", "")
    assert goes_row_by_row(model, on_processor) and not goes_row_by_row(model, Compute("cuda", "bfloat16", ""))
    assert keeps_row(model, tokens, gigabytes * 2**30) is kept


def test_rows_are_made_without_a_name_that_takes_all_of_a_tokenizer_to_tell() -> None:
    from dpo_pipeline.ml.trl_rows import trl_rows

    pickled = []

    class Tokenizer:
        def __reduce__(self) -> Any:
            pickled.append(self)
            return Tokenizer, ()

        def __call__(self, text: str) -> list[int]:
            return [len(text)]

    rows = trl_rows([{"prompt": "Why?"}, {"prompt": "How so?"}])
    for _ in range(2):  # what is made of them too
        rows = rows.map(lambda row, said_by: {"ids": said_by(row["prompt"])}, fn_kwargs={"said_by": Tokenizer()})
    assert rows.filter(lambda row: row["ids"] == [7]).to_list() == [{"prompt": "How so?", "ids": [7]}]
    assert not pickled


@pytest.mark.parametrize(
    ("names", "told", "kept"),
    [
        ("KERNEL", "its scoring kernel takes other parameters; prompts of pairs are read twice", True),
        ("REFERENCE", "the reference is computed again, and prompts of pairs are read twice", False),
    ],
)
def test_without_trls_private_names_it_goes_trls_own_way_to_the_same_adapter(
    project: Settings,
    baseline: Path,
    dataset: Path,
    trained: Any,
    names: str,
    told: str,
    kept: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    import torch

    from dpo_pipeline.ml import trl_private

    cached = (trl_private.scoring_kernel, trl_private.keeps_references)
    monkeypatch.setattr(trl_private, names, ("as in another version",))
    for each in cached:
        each.cache_clear()
    try:
        again = replace(job(project, baseline, dataset), work_dir=str(tmp_path), reference_cache=str(tmp_path))
        found = tensors(Path(run(again).adapter_dir))
    finally:
        for each in cached:
            each.cache_clear()
    for name, tensor in tensors(Path(trained.adapter_dir)).items():
        assert torch.allclose(found[name], tensor, atol=2e-3), name
    assert told in caplog.text and bool(list(tmp_path.rglob("train-*.parquet"))) == kept


def test_the_adapter_moved_and_carries_its_lineage(
    project: Settings, baseline: Path, dataset: Path, trained: Any
) -> None:
    import torch

    before, after = tensors(baseline), tensors(Path(trained.adapter_dir))
    assert before.keys() == after.keys()
    assert any(not torch.equal(before[name], after[name]) for name in before)
    manifest = check_adapter(Path(trained.adapter_dir), locate_base(project).sha, project.model)
    assert manifest["reference_sha"] == artifacts.read_manifest(baseline)["sha256"]
    assert manifest["dataset_hash"] == artifacts.read_manifest(dataset)["content_hash"]
    assert manifest["version"] == "v1.1" and manifest["pairs"] > 30
    assert not (Path(trained.adapter_dir) / "ref").exists()


def test_training_learned_what_was_preferred(trained: Any) -> None:
    assert trained.curve[0]["loss"] == pytest.approx(0.693, abs=0.12)
    assert trained.curve[-1]["loss"] < trained.curve[0]["loss"]
    assert trained.metrics["rewards/margins"] > 0


def test_loss_and_accuracy_are_told_of_each_kind_of_training(project: Settings, baseline: Path, trained: Any) -> None:
    sft = run(sft_job(project, locate_base(project)))
    assert [name for name in SHOWN if name in sft.curve[0]] == ["loss", "mean_token_accuracy", "learning_rate"]
    assert all(0 <= row["mean_token_accuracy"] <= 1 for row in sft.curve)
    assert all(name in trained.curve[0] for name in SHOWN)


def test_the_reference_is_the_start_adapter_not_the_base_model(
    project: Settings, baseline: Path, dataset: Path, trained: Any
) -> None:
    """The cached log-probabilities are those of v1.0: the base model's own differ."""
    import pyarrow.parquet as pq

    cache = reference_cache(project, baseline, dataset)
    rows = [row for path in cache.glob("*.parquet") for row in pq.read_table(path).to_pylist()]
    base_logps = _chosen_logps(project, dataset, None)
    own_logps = _chosen_logps(project, dataset, baseline)
    cached = sorted(row["ref_chosen_logps"] for row in rows)
    held_and_train = sorted(own_logps)
    assert len(cached) == len(held_and_train)
    assert cached == pytest.approx(held_and_train, abs=0.05)
    assert max(abs(a - b) for a, b in zip(cached, sorted(base_logps), strict=True)) > 0.5


def test_another_recipe_on_the_same_pairs_takes_the_reference_from_the_cache(
    project: Settings, baseline: Path, dataset: Path, trained: Any
) -> None:
    cache = reference_cache(project, baseline, dataset)
    before = {path: path.stat().st_mtime_ns for path in cache.iterdir()}
    assert {path.name.split("-")[0] for path in before} == {"train", "eval"}
    other = run(job(project, baseline, dataset, beta=0.5, epochs=1))
    assert other.curve[0]["loss"] == pytest.approx(0.693, abs=0.12)
    assert {path: path.stat().st_mtime_ns for path in cache.iterdir()} == before


def test_the_same_job_again_is_not_trained_again(
    project: Settings, baseline: Path, dataset: Path, trained: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO"):
        assert run(job(project, baseline, dataset)) == trained
    assert "finished already" in caplog.text


def test_killed_and_started_again_it_resumes_and_ends_the_same(
    project: Settings, baseline: Path, dataset: Path, trained: Any
) -> None:
    import torch

    other = job(project, baseline, dataset, checkpoint_steps=2, epochs=3)
    whole = job(project, baseline, dataset, checkpoint_steps=50, epochs=3)
    path = other.write(Path(other.work_dir) / "job.json")
    process = subprocess.Popen([sys.executable, "-m", "dpo_pipeline.ml.train_process", str(path)])
    first = Path(other.work_dir) / "checkpoints"
    deadline = time.monotonic() + 120
    while not any((c / artifacts.MANIFEST).exists() for c in first.glob("checkpoint-*")):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    # A checkpoint that was never finished must not be resumed from.
    torn = first / "checkpoint-999"
    torn.mkdir()
    (torn / "trainer_state.json").write_text("{")
    resumed = run(other)
    assert resumed.facts["resumed_from_step"] > 0 and not torn.exists()
    uninterrupted = run(whole)
    one, two = tensors(Path(resumed.adapter_dir)), tensors(Path(uninterrupted.adapter_dir))
    assert all(torch.allclose(one[name], two[name], atol=1e-4) for name in one)


def test_v1_is_tuned_on_the_files_that_are_named(project: Settings, tmp_path: Path) -> None:
    held_out = held_out_texts(project)[0]
    rows = [{"prompt": f"Why {number}?", "completion": "Because."} for number in range(40)]
    odd = [{"prompt": held_out, "completion": "Known."}, {"prompt": "Why?"}]
    file = tmp_path / "own.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in [*rows, *odd]))
    sft = project.sft.model_copy(update={"demonstrations": (file,)})
    own = sft_job(project.model_copy(update={"sft": sft}), locate_base(project))
    asked = [json.loads(line)["prompt"][0]["content"] for line in Path(own.rows_file).read_text().splitlines()]
    assert asked == [row["prompt"] for row in rows], "none that versions are judged on"
    assert own.work_dir != sft_job(project, locate_base(project)).work_dir
    file.write_text(json.dumps(rows[0]))
    with pytest.raises(DatasetTooSmall, match="1 demonstrations of"):
        sft_job(project.model_copy(update={"sft": sft}), locate_base(project))


@pytest.mark.nightly
def test_an_adapter_is_the_same_file_in_every_process(tmp_path: Path) -> None:
    """PEFT keeps the layers' names in a set, whose order hangs on the seed of the process's hashes."""
    code = """
import sys
from pathlib import Path
import torch
from peft import LoraConfig, get_peft_model
from transformers import Qwen2Config, Qwen2ForCausalLM
from dpo_pipeline.ml.adapters import save_adapter
torch.manual_seed(0)
shape = dict(hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=1)
names = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
model = get_peft_model(Qwen2ForCausalLM(Qwen2Config(vocab_size=32, **shape)), LoraConfig(r=2, target_modules=names))
save_adapter(model, Path(sys.argv[1]))
"""
    found = set()
    for seed in ("1", "2"):
        variables = {**os.environ, "PYTHONHASHSEED": seed}
        subprocess.run([sys.executable, "-c", code, str(tmp_path / seed)], env=variables, check=True)
        found.add(tuple((tmp_path / seed / name).read_bytes() for name in ("adapter_config.json", WEIGHTS)))
    assert len(found) == 1


def test_a_diverging_training_stops_and_says_so(project: Settings, baseline: Path, dataset: Path) -> None:
    wild = job(project, baseline, dataset, learning_rate=1e30, epochs=4)
    with pytest.raises(TrainingDiverged, match="learning_rate"):
        run(wild)


def test_too_few_pairs_that_fit_is_an_error(project: Settings, baseline: Path) -> None:
    long_ones = [
        Pair(
            event_id=f"e{i}", prompt="word " * 400 + str(i), chosen="yes", rejected="no", category="other", source="api"
        )
        for i in range(20)
    ]
    data = write_dataset(project, split_pairs(long_ones, frozenset(), 0.2, 8))
    with pytest.raises(DatasetTooSmall, match="prompt_too_long"):
        run(job(project, baseline, data))


@pytest.mark.parametrize("damage", ["flipped", "truncated", "nan", "zero", "unchanged", "other base", "pickle", "rank"])
def test_a_bad_adapter_is_refused(project: Settings, baseline: Path, trained: Any, tmp_path: Path, damage: str) -> None:
    from safetensors.torch import save_file

    bad = tmp_path / "adapter"
    shutil.copytree(trained.adapter_dir, bad)
    facts = {"base_sha": locate_base(project).sha}
    weights = bad / WEIGHTS
    loaded = tensors(bad)
    if damage == "flipped":
        data = bytearray(weights.read_bytes())
        data[-7] ^= 1
        weights.write_bytes(bytes(data))
    elif damage == "truncated":
        weights.write_bytes(weights.read_bytes()[:-100])
    elif damage == "nan":
        loaded[next(iter(loaded))][0, 0] = float("nan")
        save_file(loaded, weights)
    elif damage == "zero":
        save_file({name: tensor * 0 for name, tensor in loaded.items()}, weights)
    elif damage == "unchanged":
        shutil.copy(baseline / WEIGHTS, weights)
    elif damage == "rank":
        name = next(name for name in loaded if "lora_A" in name)
        save_file({**loaded, name: loaded[name][:4].contiguous()}, weights)
    elif damage == "other base":
        facts = {"base_sha": "0" * 64}
    else:
        weights.rename(bad / "adapter_model.bin")
    if damage not in ("flipped", "truncated"):
        artifacts.write_manifest(bad, facts)
    with pytest.raises((AdapterRefused, ArtifactCorrupt, TrainingDiverged)):
        check_adapter(bad, locate_base(project).sha, project.model)
        check_weights(bad, baseline)


def test_an_sft_round_goes_on_from_the_baseline_and_is_then_the_reference(
    project: Settings, baseline: Path, dataset: Path
) -> None:
    rows = [demonstration(question, question.detailed[0]) for question in read_bank(project.bank_dir)[:24]]
    settings = project.model_copy(update={"sft": project.sft.model_copy(update={"epochs": 3})})
    round_one = Path(run(sft_round_job(settings, locate_base(project), baseline, rows)).adapter_dir)
    assert artifacts.read_manifest(round_one)["demonstrations"] == 24
    result = run(job(project, round_one, dataset, epochs=1, sft_rounds=1))
    manifest = artifacts.read_manifest(Path(result.adapter_dir))
    assert manifest["reference_sha"] == artifacts.read_manifest(round_one)["sha256"]
    assert result.curve[0]["loss"] == pytest.approx(0.693, abs=0.05)


def test_the_profile_of_larger_models_trains_a_qwen2_from_a_folder(project: Settings, tmp_path: Path) -> None:
    """The folder is our small Qwen2: profile, choice of precision and accumulation are those of the large one."""
    folder = str(locate_base(project).directory)
    model = {"base": folder, "max_length": 160, "max_new_tokens": 24}
    settings = settings_in(tmp_path, profile="qwen2", model=model, sft={"epochs": 0.1})
    assert settings.model.dtype == "auto" and settings.recipe.gradient_accumulation == 4
    base = locate_base(settings)
    start = Path(run(sft_job(settings, base)).adapter_dir)
    data = write_dataset(settings, split_pairs(pairs(settings), frozenset(), 0.15, settings.recipe.batch_size))
    result = run(dpo_job(settings, base, settings.recipe, start, data, {"version": "v1.1"}))
    check_adapter(Path(result.adapter_dir), base.sha, settings.model)
    assert result.curve[0]["loss"] == pytest.approx(0.693, abs=0.05)
    generator = Generator(base, settings.model)
    generator.load(result.adapter_sha, Path(result.adapter_dir))
    asked = GenerationRequest((("user", "Why is the sky blue?"),), result.adapter_sha, 0.0, 1.0, 8, 1)
    [answer] = generator.generate([asked])
    assert answer.tokens > 0


def test_the_same_training_for_llamafactory(project: Settings, baseline: Path, dataset: Path) -> None:
    import yaml

    path = write_llamafactory_config(project.model, job(project, baseline, dataset))
    assert (
        path
        and write_llamafactory_config(project.model, job(project, baseline, dataset, loss_type=("robust",))) is None
    )
    config = yaml.safe_load(path.read_text())
    assert config["stage"] == "dpo" and config["pref_loss"] == "sigmoid" and config["dataset"] == "prefs"
    folder = Path(config["dataset_dir"])
    info = json.loads((folder / "dataset_info.json").read_text())["prefs"]
    rows = [json.loads(line) for line in (folder / info["file_name"]).read_text().splitlines()]
    assert info["ranking"] and len(rows) == artifacts.read_manifest(dataset)["pairs"]["train"]
    assert rows[0]["conversations"][0]["from"] == "human" and rows[0]["chosen"]["from"] == "gpt"


def reference_cache(project: Settings, baseline: Path, dataset: Path) -> Path:
    content = artifacts.read_manifest(dataset)["content_hash"]
    reference = artifacts.read_manifest(baseline)["sha256"]
    name = f"{content[:16]}-{reference[:16]}-{project.model.max_length}-*"
    [found] = (project.artifacts_dir / "reference_logps").glob(name)
    return found


def _chosen_logps(project: Settings, dataset: Path, adapter: Path | None) -> list[float]:
    """Summed log-probability of every chosen answer, train and eval, computed without TRL."""
    import pyarrow.parquet as pq
    import torch
    from peft import PeftModel

    from dpo_pipeline.ml.base_model import load_base

    model, tokenizer = load_base(locate_base(project).directory, project.model)
    if adapter:
        model = PeftModel.from_pretrained(model, adapter).eval()
    totals = []
    for name in ("train", "eval"):
        for row in pq.read_table(dataset / f"{name}.parquet").to_pylist():
            prompt = tokenizer.apply_chat_template(row["prompt"], add_generation_prompt=True, tokenize=False)
            whole = tokenizer.apply_chat_template(row["prompt"] + row["chosen"], tokenize=False)
            ids = tokenizer(whole, add_special_tokens=False, return_tensors="pt")["input_ids"]
            start = len(tokenizer(prompt, add_special_tokens=False)["input_ids"])
            with torch.no_grad():
                logps = model(input_ids=ids).logits[:, :-1].log_softmax(-1)
            totals.append(float(logps.gather(-1, ids[:, 1:, None])[:, start - 1 :].sum()))
    return totals
