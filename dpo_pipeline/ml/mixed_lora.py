"""Several LoRA adapters on one model at once: every row of a batch has its own, or none.

The adapters of a layer stand side by side in one pair of matrices, `down` [R, in] and `up` [R, out]
with R the sum of their ranks. A row takes its own part by a mask [rows, R]:

    y = x W + ((x downᵀ) · mask) up

so a layer costs two small products however many versions share the batch. PEFT's `adapter_names`
gives the same numbers (tested) but runs adapter by adapter, layer by layer
(`docs/decisions/0006-mixed-batches.md`).

For a single token on a processor both products are made in float32, whatever the model computes in, and of its own
adapter alone: in bfloat16 each takes ten times as long to begin as to compute, a sixth of a token in all. Where layers
are read in 8 bits (`eight_bit`) and a copy of them is small, each adapter has one of its own, into which it is folded:
then a single token costs nothing more than without an adapter.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from dpo_pipeline.errors import AdapterRefused
from dpo_pipeline.ml.adapters import WEIGHTS, read_config
from dpo_pipeline.ml.eight_bit import EightBitLinear, Rounded, rooms

FOLDED = 250_000_000
"""Bytes, at most, of the copy of the layers that each adapter has: in larger models its products matter less."""
_PREFIX = "base_model.model."


class _Rows:
    """Which adapter each row takes; shared by all layers. `mask` [rows, R], or null for none at all; `alone` names the
    adapter of the only row.
    """

    mask: torch.Tensor | None = None
    alone: str | None = None
    _read: tuple[torch.Tensor, torch.Tensor] | None = None

    def in_float32(self, x: torch.Tensor) -> torch.Tensor:
        """[1, in]; several layers read the same, one after the other."""
        if self._read is None or self._read[0] is not x:
            self._read = x, x.reshape(1, -1).float()
        return self._read[1]


class _MixedLinear(torch.nn.Module):
    """A linear layer with the adapters' parts of it."""

    def __init__(self, base: torch.nn.Linear, rows: _Rows):
        super().__init__()
        self.base, self._rows = base, rows
        self.down: torch.Tensor | None = None
        self.up: torch.Tensor | None = None
        self._for_one: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}
        self.folded: dict[str, Rounded] = {}

    def stack(self, parts: Mapping[str, tuple[torch.Tensor, torch.Tensor]]) -> None:
        """Take these adapters, side by side; none at all where there are none."""
        self.down = torch.cat([down for down, _ in parts.values()]) if parts else None
        self.up = torch.cat([up for _, up in parts.values()]) if parts else None
        self._for_one = {
            name: (down.float().T.contiguous(), up.float())
            for name, (down, up) in parts.items()
            if down.device.type == "cpu" and name not in self.folded
        }

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        alone = self._rows.alone if x.numel() == self.base.in_features else None
        if alone in self.folded and isinstance(self.base, EightBitLinear):
            return self.base.few(x, self.folded[alone])
        y: torch.Tensor = self.base(x)
        mask = self._rows.mask
        if mask is None or self.down is None or self.up is None:
            return y
        if alone in self._for_one:
            down, up = self._for_one[alone]
            y.view(1, -1).add_(torch.mm(torch.mm(self._rows.in_float32(x), down), up))
            return y
        inner = torch.nn.functional.linear(x, self.down)
        inner *= mask if inner.dim() == 2 else mask[:, None]
        return torch.addmm(y.flatten(0, -2), inner.flatten(0, -2), self.up).view_as(y)


class MixedLora:
    """The adapters loaded on a model, by name. Changes between forward passes only."""

    def __init__(self, model: torch.nn.Module, targets: Sequence[str]):
        self._rows = _Rows()
        self._ranks: dict[str, int] = {}
        self._parts: dict[str, dict[str, tuple[torch.Tensor, torch.Tensor]]] = {}
        self._layers: dict[str, _MixedLinear] = {}
        found = [(path, layer) for path, layer in model.named_modules() if isinstance(layer, torch.nn.Linear)]
        for path, layer in found:
            if path.rpartition(".")[2] in targets:
                self._layers[path] = _MixedLinear(layer, self._rows)
                model.set_submodule(path, self._layers[path])
        bases = [layer.base for layer in self._layers.values()]
        self._folds = sum(each.weight.numel() for each in bases) <= FOLDED and all(
            isinstance(each, EightBitLinear) for each in bases
        )

    @property
    def names(self) -> set[str]:
        return set(self._ranks)

    def add(self, name: str, directory: Path) -> None:
        """Load a plain LoRA adapter in PEFT's form; `directory` was verified before.

        Raises:
            AdapterRefused: it changes something other than these layers, or is no plain LoRA.
        """
        config = read_config(directory)
        parts = self._read(directory, _scale(config))
        self._parts[name] = parts
        self._ranks[name] = config["r"]
        if self._folds:
            layers = {path: self._layers[path] for path in parts}
            for (path, layer), room in zip(layers.items(), rooms([each.base for each in layers.values()]), strict=True):
                down, up = parts[path]
                layer.folded[name] = Rounded.of(layer.base.weight, room, up.float().T @ down.float())
        self._stack()

    def remove(self, name: str) -> None:
        del self._parts[name], self._ranks[name]
        for layer in self._layers.values():
            layer.folded.pop(name, None)
        self._stack()

    def select(self, names: Sequence[str | None]) -> None:
        """From now on row i takes adapter `names[i]`; null takes the base model's own weights."""
        if not any(names):
            self._rows.mask = self._rows.alone = None
            return
        layer = next(iter(self._layers.values()))
        mask = torch.zeros(len(names), sum(self._ranks.values()))
        for row, name in enumerate(names):
            if name is not None:
                mask[row, self._columns(name)] = 1
        self._rows.mask = mask.to(layer.base.weight)
        self._rows.alone = names[0] if len(names) == 1 else None

    def _columns(self, name: str) -> slice:
        before = 0
        for known, rank in self._ranks.items():
            if known == name:
                return slice(before, before + rank)
            before += rank
        raise KeyError(name)

    def _read(self, directory: Path, scale: float) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
        from safetensors.torch import load_file

        tensors = load_file(directory / WEIGHTS)
        parts = {}
        for key in [key for key in tensors if key.endswith(".lora_A.weight")]:
            path = key.removeprefix(_PREFIX).removesuffix(".lora_A.weight")
            other = key.replace(".lora_A.", ".lora_B.")
            if path not in self._layers or other not in tensors:
                raise AdapterRefused(f"{directory} has weights for {path}, which the served model lacks. Train again.")
            like = self._layers[path].base.weight
            parts[path] = (tensors.pop(key).to(like), (tensors.pop(other).T * scale).to(like))
        if tensors:
            raise AdapterRefused(f"{directory} has weights that are no LoRA: {sorted(tensors)[:3]}. Train again.")
        return parts

    def _stack(self) -> None:
        """Put every layer's adapters side by side again; an adapter without a layer has zeros there."""
        self._rows.mask = self._rows.alone = None
        for path, layer in self._layers.items():
            if not any(path in parts for parts in self._parts.values()):
                layer.stack({})
                continue
            weight = layer.base.weight
            layer.stack(
                {
                    name: self._parts[name].get(path)
                    or (weight.new_zeros(rank, layer.base.in_features), weight.new_zeros(rank, layer.base.out_features))
                    for name, rank in self._ranks.items()
                }
            )


def _scale(config: dict[str, Any]) -> float:
    rank, alpha = float(config["r"]), float(config["lora_alpha"])
    return float(alpha / (rank**0.5 if config.get("use_rslora") else rank))
