"""Norms in one step: the very same numbers, or the layer stays as it is."""

from typing import Any

import pytest
import torch  # noqa: TID253  (layers are what is tested)

from dpo_pipeline.ml.fused_norm import FusedNorm, fuse_norms


class GemmaRMSNorm(torch.nn.Module):
    def __init__(self, size: int):
        super().__init__()
        self.eps, self.weight = 1e-6, torch.nn.Parameter(0.3 * torch.randn(size))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        normed = x.float() * torch.rsqrt(x.float().pow(2).mean(-1, keepdim=True) + self.eps)
        return (normed * (1.0 + self.weight.float())).type_as(x)


class QwenRMSNorm(GemmaRMSNorm):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        normed = x.float() * torch.rsqrt(x.float().pow(2).mean(-1, keepdim=True) + self.eps)
        return self.weight * normed.to(x.dtype)


class OtherRMSNorm(GemmaRMSNorm):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) + 0.5


def of(kind: Any) -> torch.nn.Sequential:
    torch.manual_seed(2)
    return torch.nn.Sequential(torch.nn.Linear(96, 96), kind(96)).to(torch.bfloat16)


@pytest.mark.parametrize("kind", [GemmaRMSNorm, QwenRMSNorm])
@pytest.mark.parametrize("shape", [(1, 1, 96), (3, 5, 96), (2, 4, 7, 96)])
def test_it_gives_what_the_layer_gave_to_the_last_bit(kind: Any, shape: tuple[int, ...]) -> None:
    model = of(kind)
    x = 10 * torch.randn(shape, dtype=torch.bfloat16)
    with torch.inference_mode():
        wanted = model(x)
        assert fuse_norms(model) == 1 and isinstance(model[1], FusedNorm)
        assert torch.equal(model(x), wanted)


def test_a_layer_that_does_something_else_stays() -> None:
    model = of(OtherRMSNorm)
    assert fuse_norms(model) == 0 and isinstance(model[1], OtherRMSNorm)


@pytest.mark.parametrize("name", ["gemma3.modeling_gemma3.Gemma3RMSNorm", "qwen2.modeling_qwen2.Qwen2RMSNorm"])
def test_those_of_transformers_are_of_one_of_both_kinds(name: str) -> None:
    from importlib import import_module

    module, _, kind = name.rpartition(".")
    norm = getattr(import_module(f"transformers.models.{module}"), kind)
    assert fuse_norms(of(norm)) == 1
