"""Adapters side by side on layers that are read in 8 bits: alone, a row reads its adapter's own copy of them."""

import json
from pathlib import Path

import pytest
import torch  # noqa: TID253  (layers are what is tested)

from dpo_pipeline.ml import mixed_lora
from dpo_pipeline.ml.eight_bit import decode_in_eight_bits
from dpo_pipeline.ml.mixed_lora import MixedLora

WIDTH, OUT, RANK = 64, 48, 4


def model_of_one_layer() -> torch.nn.Module:
    torch.manual_seed(3)
    model = torch.nn.Module()
    model.q_proj = torch.nn.Linear(WIDTH, OUT, bias=False, dtype=torch.bfloat16)
    return model


def adapter(directory: Path, seed: int) -> tuple[Path, torch.Tensor]:
    """A folder of PEFT's form, and the change [out, in] that it makes."""
    from safetensors.torch import save_file

    torch.manual_seed(seed)
    down, up = 0.3 * torch.randn(RANK, WIDTH), 0.3 * torch.randn(OUT, RANK)
    directory.mkdir()
    prefix = "base_model.model.q_proj."
    save_file({f"{prefix}lora_A.weight": down, f"{prefix}lora_B.weight": up}, directory / "adapter_model.safetensors")
    config = {"r": RANK, "lora_alpha": 2 * RANK, "target_modules": ["q_proj"], "peft_type": "LORA"}
    (directory / "adapter_config.json").write_text(json.dumps(config))
    return directory, 2 * up @ down


@pytest.mark.parametrize("limit", [mixed_lora.FOLDED, WIDTH * OUT - 1])
def test_each_row_gets_its_adapter_and_no_other_whether_folded_or_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    monkeypatch.setattr(mixed_lora, "FOLDED", limit)
    model = model_of_one_layer()
    weight = model.q_proj.weight.detach().float()
    assert decode_in_eight_bits(model)
    adapters = MixedLora(model, ["q_proj"])
    changes = {name: adapter(tmp_path / name, seed)[1] for seed, name in enumerate("ab")}
    for name in changes:
        adapters.add(name, tmp_path / name)
    x = torch.randn(3, 1, WIDTH, dtype=torch.bfloat16)
    wanted = {name: x.float() @ (weight + change).T for name, change in changes.items()} | {None: x.float() @ weight.T}

    def apart(names: list[str | None]) -> float:
        adapters.select(names)
        with torch.inference_mode():
            found = model.q_proj(x[: len(names)]).float()
        right = torch.stack([wanted[name][row] for row, name in enumerate(names)])
        return float((found - right).norm() / right.norm())

    for names in (["a"], ["b"], [None], ["a"], ["a", "b"], ["b", None, "a"]):
        assert apart(names) < 0.02, names
    adapters.remove("a")
    assert apart(["b"]) < 0.02 and adapters.names == {"b"}
    adapters.remove("b")
    assert apart([None]) < 0.02


def test_a_copy_is_made_where_it_is_small_and_layers_are_read_in_eight_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, _ = adapter(tmp_path / "a", 0)

    def copies(eight_bit: bool) -> int:
        model = model_of_one_layer()
        if eight_bit:
            decode_in_eight_bits(model)
        adapters = MixedLora(model, ["q_proj"])
        adapters.add("a", folder)
        return len(model.q_proj.folded)

    assert copies(eight_bit=True) == 1 and copies(eight_bit=False) == 0
    monkeypatch.setattr(mixed_lora, "FOLDED", WIDTH * OUT - 1)
    assert copies(eight_bit=True) == 0
