"""The base model that lies in the package: it belongs to this bank and recipe, nobody waits for it, it can be built."""

import shutil
from pathlib import Path

import pytest

from dpo_pipeline.errors import ArtifactCorrupt
from dpo_pipeline.ml import embedded
from dpo_pipeline.ml.base_model import curriculum, ensure_base, locate_base, rebuild_embedded
from dpo_pipeline.settings import ModelSettings, Settings
from dpo_pipeline.stores import artifacts
from dpo_pipeline_tests.examples import settings_in


def never(step: int, total: int, metrics: dict[str, float]) -> None:
    pytest.fail("the base model was built")


class EnoughSeen(Exception):
    pass


def test_the_shipped_base_belongs_to_this_bank_and_recipe(tmp_path: Path) -> None:
    manifest = artifacts.verify(embedded.SHIPPED)
    settings = settings_in(tmp_path)
    assert manifest["identity"] == curriculum(settings.bank_dir).identity(settings.model.pretrain_steps), (
        "the bank or the recipe of the embedded base changed: run `dpo build-base dpo_pipeline/ml/embedded_base`"
    )


def test_nobody_waits_for_it(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    base = ensure_base(settings, never)
    assert base == locate_base(settings) and base.sha == artifacts.read_manifest(embedded.SHIPPED)["sha256"]


def test_another_bank_or_step_count_is_another_model(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    bank = tmp_path / "bank"
    shutil.copytree(settings.bank_dir, bank)
    lines = (bank / "creative.jsonl").read_text().splitlines()
    (bank / "creative.jsonl").write_text("\n".join(lines[1:]) + "\n")
    other = settings_in(tmp_path, bank_dir=bank)
    identities = {curriculum(s.bank_dir).identity(steps) for s in (settings, other) for steps in (800, 801)}
    assert len(identities) == 4


def test_a_folder_with_something_else_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "votes.jsonl").write_text("{}\n")
    with pytest.raises(ArtifactCorrupt, match="Name an empty directory"):
        rebuild_embedded(settings_in(tmp_path), tmp_path / "precious", never)
    assert (tmp_path / "precious" / "votes.jsonl").exists()


@pytest.mark.slow
@pytest.mark.nightly
def test_a_rebuild_begins_as_the_shipped_one_did(tmp_path: Path) -> None:
    """Seeds, data and arithmetic are the same: the losses of the first steps are, whatever the processor."""
    settings, losses = settings_in(tmp_path), []

    def stop_early(step: int, total: int, metrics: dict[str, float]) -> None:
        losses.append(metrics["loss"])
        if step == embedded.FIRST_STEPS:
            raise EnoughSeen

    with pytest.raises(EnoughSeen):
        rebuild_embedded(settings, tmp_path / "base", stop_early)
    assert losses == pytest.approx(artifacts.read_manifest(embedded.SHIPPED)["first_losses"], rel=0.02)
    assert not (tmp_path / "base").exists()


@pytest.mark.nightly
def test_a_rebuild_evaluates_the_same(tmp_path: Path) -> None:
    """The whole build, which takes some minutes: as likely answers, and as many learned by heart, within noise."""
    settings = settings_in(tmp_path)
    rebuild_embedded(settings, tmp_path / "base", lambda step, total, metrics: None)
    shipped, rebuilt = (_evaluated(settings, directory) for directory in (embedded.SHIPPED, tmp_path / "base"))
    assert rebuilt["nats_a_token"] == pytest.approx(shipped["nats_a_token"], rel=0.1)
    assert rebuilt["by_heart"] == pytest.approx(shipped["by_heart"], abs=0.05)


def _evaluated(settings: Settings, directory: Path) -> dict[str, float]:
    """Loss on what was learned, and the share of questions whose greedy answer is one of the learned ones."""
    import torch

    from dpo_pipeline.ml.base_model import load_base

    model, tokenizer = load_base(directory, ModelSettings(dtype="float32"))
    answers: dict[str, set[str]] = {}
    for question, answer in curriculum(settings.bank_dir).answers:
        answers.setdefault(question, set()).add(answer)
    losses, tokens, by_heart = 0.0, 0, 0
    with torch.inference_mode():
        for question, learned in answers.items():
            prompt = tokenizer.apply_chat_template([{"role": "user", "content": question}], add_generation_prompt=True)
            ids = torch.tensor([prompt["input_ids"]])
            for answer in learned:
                said = tokenizer(answer, add_special_tokens=False)["input_ids"] + [tokenizer.eos_token_id]
                whole = torch.cat([ids, torch.tensor([said])], dim=1)
                labels = torch.where(torch.arange(whole.shape[1]) < ids.shape[1], -100, whole)
                losses += float(model(whole, labels=labels).loss) * len(said)
                tokens += len(said)
            out = model.generate(ids, do_sample=False, max_new_tokens=64)[0, ids.shape[1] :]
            by_heart += tokenizer.decode(out, skip_special_tokens=True) in learned
    return {"nats_a_token": losses / tokens, "by_heart": by_heart / len(answers)}
