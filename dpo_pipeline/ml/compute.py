"""On which device a model computes, and in which numbers: decided here, for training, generation and evaluation."""

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dpo_pipeline.settings import ModelSettings

log = logging.getLogger(__name__)

BF16_UNITS = ("avx512_bf16", "amx_bf16", "avx10_2", "bf16", "arm_bf16", "sve_bf16")
"""As `torch.cpu.get_capabilities` names them, on x86 and on Arm."""
WITHOUT_BF16 = ("SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX512_CORE", "AVX512_CORE_VNNI")
"""Values of ONEDNN_MAX_CPU_ISA that keep torch's kernels from a unit that is there."""
KEPT_PARAMETERS = 50_000_000
KEPT_OF_WIDTH = 17
"""Numbers that a layer with LoRA keeps for each of a token's, as measured on Gemma 3 270M: 1.7 MB a token in all."""


@dataclass(frozen=True)
class Compute:
    """Where a model computes: `cpu` or `cuda`, `float32` or `bfloat16`, and why."""

    device: str
    dtype: str
    reason: str

    @property
    def on_gpu(self) -> bool:
        return self.device == "cuda"

    @property
    def autocast_bf16(self) -> bool:
        """Whether a trainer runs its forward passes under bf16 autocast."""
        return self.on_gpu and self.dtype == "bfloat16"

    def __str__(self) -> str:
        return f"computing on {self.device} in {self.dtype}: {self.reason}"


_SAID: set[Compute] = set()
"""In the log of this process."""


def choose_compute(
    model: ModelSettings, gpu: str | None, gpu_has_bf16: bool, cpu: Mapping[str, Any], onednn_limit: str = ""
) -> Compute:
    """Device and numbers for a model.

    Without a unit for it a processor emulates bfloat16, which is 20 to 200 times slower than float32 there. So
    bfloat16 is taken where there is a unit and not refused by the settings, and never elsewhere, asked for or not.

    Args:
        gpu: the GPU's name; null: there is none.
        cpu: what the processor can do, as `torch.cpu.get_capabilities` tells it.
        onednn_limit: the variable ONEDNN_MAX_CPU_ISA.
    """
    if model.device == "cuda" or (model.device == "auto" and gpu):
        device, name, units = "cuda", gpu or "the GPU", gpu_has_bf16
    else:
        found = [unit for unit in BF16_UNITS if cpu.get(unit)]
        limited = onednn_limit.upper() in WITHOUT_BF16
        device, units = "cpu", bool(found) and not limited
        name = "this processor" + (f" ({found[0]})" if units else "")
        if found and limited:
            name += f" under ONEDNN_MAX_CPU_ISA={onednn_limit}"
    if model.dtype == "float32":
        return Compute(device, "float32", "model.dtype asks for it")
    if units:
        return Compute(device, "bfloat16", f"{name} has a unit for it")
    asked = ", so model.dtype=bfloat16 is not followed" if model.dtype == "bfloat16" else ""
    return Compute(device, "float32", f"{name} has no unit for bfloat16{asked}")


def compute_of(model: ModelSettings) -> Compute:
    """The choice for the machine that this process runs on; the log says each once."""
    import torch

    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    gpu_has_bf16 = gpu is not None and torch.cuda.is_bf16_supported(including_emulation=False)
    limit = os.environ.get("ONEDNN_MAX_CPU_ISA", "")
    chosen = choose_compute(model, gpu, gpu_has_bf16, torch.cpu.get_capabilities(), limit)
    if chosen not in _SAID:
        _SAID.add(chosen)
        log.info("%s", chosen)
    return chosen


def has_many_parameters(model: Any) -> bool:
    """Whether what its layers compute matters beside everything else: next to nothing of the embedded one does."""
    return bool(sum(each.numel() for each in model.parameters()) > KEPT_PARAMETERS)


def recomputes(model: Any, compute: Compute) -> bool:
    """Whether training on whole batches forgets what layers computed and computes it again on the way back.

    It costs a third more in the layers. What would be kept grows with rows, tokens and layers.
    """
    return compute.on_gpu or has_many_parameters(model)


def goes_row_by_row(model: Any, compute: Compute) -> bool:
    """Whether training reads the rows of a batch one at a time, and sums their gradients up.

    A row of a large model keeps a processor as busy as a batch does, without padding; and so little has to be kept of
    it that nothing need be computed again.
    """
    return not compute.on_gpu and has_many_parameters(model)


def may_decode_in_eight_bits(model: Any, compute: Compute) -> bool:
    """Whether answers are sooner there with weights of 8 bits: for a large model on a processor with a unit for
    bfloat16, whose kernel is fast. In float32 it is slower than the weights as they are.
    """
    return not compute.on_gpu and compute.dtype == "bfloat16" and has_many_parameters(model)


def keeps_row(model: Any, tokens: int, memory: int) -> bool:
    """Whether what the layers compute for a row may be kept: a quarter of the memory (bytes) is enough for it."""
    config = model.config.get_text_config()
    width = config.hidden_size + getattr(config, "intermediate_size", 4 * config.hidden_size)
    kept = tokens * config.num_hidden_layers * width * KEPT_OF_WIDTH * model.dtype.itemsize
    return bool(kept <= memory / 4)
