"""No bfloat16 where the device would have to emulate it."""

import pytest

from dpo_pipeline.ml.compute import choose_compute
from dpo_pipeline.settings import ModelSettings, load_settings

ZEN_3 = {"avx2": True, "avx512_f": False, "avx512_bf16": False, "amx_bf16": False}
ZEN_4 = {"avx2": True, "avx512_f": True, "avx512_bf16": True}
SAPPHIRE_RAPIDS = {"avx512_f": True, "avx512_bf16": True, "amx_bf16": True}
GRAVITON_3 = {"neon": True, "bf16": True}


def chosen(dtype: str, cpu: dict[str, bool], gpu: str | None = None, bf16: bool = False, limit: str = "") -> str:
    model = ModelSettings(dtype=dtype)  # type: ignore[arg-type]
    compute = choose_compute(model, gpu, bf16, cpu, limit)
    return f"{compute.device} {compute.dtype}"


@pytest.mark.parametrize("dtype", ["auto", "bfloat16"])
def test_a_processor_without_the_unit_computes_in_float32_whatever_is_asked(dtype: str) -> None:
    assert chosen(dtype, ZEN_3) == "cpu float32"
    assert chosen(dtype, {}) == "cpu float32"


@pytest.mark.parametrize("cpu", [ZEN_4, SAPPHIRE_RAPIDS, GRAVITON_3])
def test_a_processor_with_the_unit_uses_it_unless_told_not_to(cpu: dict[str, bool]) -> None:
    assert chosen("auto", cpu) == "cpu bfloat16"
    assert chosen("float32", cpu) == "cpu float32"


@pytest.mark.parametrize("limit", ["AVX2", "avx512_core_vnni"])
def test_a_unit_that_torch_may_not_use_does_not_count(limit: str) -> None:
    assert chosen("auto", ZEN_4, limit=limit) == "cpu float32"
    assert chosen("auto", ZEN_4, limit="ALL") == "cpu bfloat16"


def test_a_gpu_is_asked_likewise() -> None:
    assert chosen("auto", ZEN_3, gpu="H100", bf16=True) == "cuda bfloat16"
    assert chosen("auto", ZEN_4, gpu="T4", bf16=False) == "cuda float32"


def test_the_reason_says_what_was_asked_and_not_followed() -> None:
    said = str(choose_compute(ModelSettings(dtype="bfloat16"), None, False, ZEN_3))
    assert said == (
        "computing on cpu in float32: this processor has no unit for bfloat16, so model.dtype=bfloat16 is not followed"
    )


def test_the_larger_profile_leaves_the_choice_to_the_device() -> None:
    assert load_settings(profile="qwen2").model.dtype == "auto"
