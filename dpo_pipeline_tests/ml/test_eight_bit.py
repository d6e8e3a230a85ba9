"""Weights read in 8 bits for few rows: nearly the same numbers, and the very same for many."""

import pytest
import torch  # noqa: TID253  (layers are what is tested)

from dpo_pipeline.ml.compute import KEPT_PARAMETERS, Compute, may_decode_in_eight_bits
from dpo_pipeline.ml.eight_bit import FEW_ROWS, EightBitLinear, decode_in_eight_bits, rooms


def layer(width: int = 64, bias: bool = False) -> torch.nn.Linear:
    torch.manual_seed(1)
    return torch.nn.Linear(width, 48, bias=bias, dtype=torch.bfloat16)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("shape", [(1, 64), (FEW_ROWS, 64), (2, 3, 64), (FEW_ROWS + 1, 64), (2, 30, 64)])
def test_few_rows_come_out_nearly_and_many_exactly_as_with_the_weights(shape: tuple[int, ...], bias: bool) -> None:
    plain = layer(bias=bias)
    made = EightBitLinear.of(plain, *rooms([plain]))
    x = torch.randn(shape, dtype=torch.bfloat16)
    with torch.inference_mode():
        found, wanted = made(x), plain(x)
    assert found.shape == wanted.shape
    if x.numel() // 64 > FEW_ROWS:
        assert torch.equal(found, wanted)
    else:
        apart = (found - wanted).float().norm() / wanted.float().norm()
        assert 0 < apart < 0.02


def test_a_row_of_zeros_stays_one() -> None:
    plain = layer()
    plain.weight.data[0] = 0
    found = EightBitLinear.of(plain, *rooms([plain]))(torch.ones(1, 64, dtype=torch.bfloat16))
    assert found[0, 0] == 0 and torch.isfinite(found).all()


def test_layers_that_the_kernel_cannot_read_stay_as_they_are() -> None:
    model = torch.nn.Sequential(layer(64), torch.nn.Sequential(layer(100)))
    assert decode_in_eight_bits(model)
    assert isinstance(model[0], EightBitLinear)
    assert type(model[1][0]) is torch.nn.Linear  # type: ignore[index]


def test_where_torch_has_no_such_product_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch, "_weight_int8pack_mm")
    model = torch.nn.Sequential(layer())
    assert not decode_in_eight_bits(model)
    assert type(model[0]) is torch.nn.Linear


def test_only_a_large_model_on_a_processor_with_bfloat16_gains() -> None:
    large = torch.nn.Linear(KEPT_PARAMETERS // 1000, 1001, bias=False, device="meta")
    processor = Compute("cpu", "bfloat16", "")
    assert may_decode_in_eight_bits(large, processor)
    assert not may_decode_in_eight_bits(layer(), processor)
    assert not may_decode_in_eight_bits(large, Compute("cpu", "float32", ""))
    assert not may_decode_in_eight_bits(large, Compute("cuda", "bfloat16", ""))
