"""Linear layers that read their weights in 8 bits where few rows are computed at once.

To decode one answer a processor reads every weight once a token: half of the bytes is less than half of the time.
Each row of a matrix is rounded to 255 steps of its own. Where more rows share what is read, as in prompts or in a full
batch, the weights are taken as they are, which stay in memory beside.

`torch._weight_int8pack_mm` is a private name of torch's; where it is gone, layers stay as they are
(`docs/decisions/0028-eight-bit-decoding.md`).
"""

import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch

log = logging.getLogger(__name__)

FEW_ROWS = 8
"""Up to so many, reading less is faster: 2.9 times at four rows of Gemma 3's vocabulary, 1.5 times at eight, equal at
sixteen (AMD Zen 5, two cores)."""
STEPS = 127
ROWS_AT_ONCE = 1024
BLOCK = 32
"""torch's kernel reads columns in blocks, and beyond the end of those that are none."""


@dataclass(frozen=True)
class Rounded:
    """A matrix [out, in] as whole steps, and how large a step of each row is: `scales` [out]."""

    steps: torch.Tensor
    scales: torch.Tensor

    @classmethod
    def of(cls, weight: torch.Tensor, room: torch.Tensor, change: torch.Tensor | None = None) -> "Rounded":
        """
        Args:
            room: where the steps go, as many bytes. Many layers share one piece of memory: between pieces of their own
                what is computed meanwhile would leave holes.
            change: added to the weights first, in float32.
        """
        weight = weight.detach()
        steps, scales = room.view_as(weight), weight.new_empty(len(weight))
        for begin in range(0, len(weight), ROWS_AT_ONCE):  # a whole vocabulary in float32 would be a gigabyte
            part = slice(begin, begin + ROWS_AT_ONCE)
            exact = weight[part].float()
            if change is not None:
                exact += change[part]
            scales[part] = exact.abs().amax(1).clamp_min_(1e-12) / STEPS
            steps[part] = exact.div_(scales[part].float()[:, None]).round_().clamp_(-STEPS, STEPS)
        return cls(steps, scales)

    def times(self, rows: torch.Tensor) -> torch.Tensor:
        """Of rows [n, in], [n, out]."""
        return torch._weight_int8pack_mm(rows, self.steps, self.scales)


class EightBitLinear(torch.nn.Linear):
    """As the layer it is made of, with its weights, but for few rows at once."""

    rounded: Rounded

    @classmethod
    def of(cls, layer: torch.nn.Linear, room: torch.Tensor) -> "EightBitLinear":
        made = cls(layer.in_features, layer.out_features, bias=False, device="meta")
        made.weight, made.bias, made.rounded = layer.weight, layer.bias, Rounded.of(layer.weight, room)
        return made

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.numel() > FEW_ROWS * self.in_features:
            return super().forward(x)
        return self.few(x, self.rounded)

    def few(self, x: torch.Tensor, weights: Rounded) -> torch.Tensor:
        """The layer on few rows, with these weights for its own."""
        found = weights.times(x.reshape(-1, self.in_features))
        if self.bias is not None:
            found += self.bias
        return found.view(*x.shape[:-1], self.out_features)


def decode_in_eight_bits(model: torch.nn.Module) -> bool:
    """Make every linear layer of a model one that does; returns whether it was done."""
    if not hasattr(torch, "_weight_int8pack_mm"):
        log.warning("This torch has no product with 8-bit weights: answers are decoded with the weights as they are.")
        return False
    layers = {
        path: layer
        for path, layer in model.named_modules()
        if type(layer) is torch.nn.Linear and layer.in_features % BLOCK == 0
    }
    for (path, layer), room in zip(layers.items(), rooms(layers.values()), strict=True):
        model.set_submodule(path, EightBitLinear.of(layer, room))
    return True


def rooms(layers: Collection[torch.nn.Linear]) -> Sequence[torch.Tensor]:
    """One piece of memory, a part for the steps of each."""
    sizes = [layer.weight.numel() for layer in layers]
    found: Sequence[torch.Tensor] = torch.empty(sum(sizes), dtype=torch.int8).split(sizes)
    return found
