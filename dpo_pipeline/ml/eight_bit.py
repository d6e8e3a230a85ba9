"""Linear layers that read their weights in 8 bits where few rows are computed at once.

To decode one answer a processor reads every weight once a token: half of the bytes is less than half of the time.
Each row of a matrix is rounded to 255 steps of its own. Where more rows share what is read, as in prompts or in a full
batch, the weights are taken as they are, which stay in memory beside.

`torch._weight_int8pack_mm` is a private name of torch's; where it is gone, layers stay as they are
(`docs/decisions/0028-eight-bit-decoding.md`).
"""

import logging

import torch

log = logging.getLogger(__name__)

FEW_ROWS = 8
"""Up to so many, reading less is faster: 2.9 times at four rows of Gemma 3's vocabulary, 1.5 times at eight, equal at
sixteen (AMD Zen 5, two cores)."""
STEPS = 127
BLOCK = 32
"""torch's kernel reads columns in blocks, and beyond the end of those that are none."""


class EightBitLinear(torch.nn.Linear):
    """As the layer it is made of, with its weights, but for few rows at once."""

    scales: torch.Tensor  # [out]
    rounded: torch.Tensor  # [out, in]

    @classmethod
    def of(cls, layer: torch.nn.Linear) -> "EightBitLinear":
        made = cls(layer.in_features, layer.out_features, bias=False, device="meta")
        made.weight, made.bias = layer.weight, layer.bias
        weight = layer.weight.detach()
        made.scales = weight.abs().amax(1).clamp_min(1e-12) / STEPS
        made.rounded = (weight / made.scales[:, None]).round_().clamp_(-STEPS, STEPS).to(torch.int8)
        return made

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows = x.reshape(-1, self.in_features)
        if len(rows) > FEW_ROWS:
            return super().forward(x)
        found = torch._weight_int8pack_mm(rows, self.rounded, self.scales)
        if self.bias is not None:
            found += self.bias
        return found.view(*x.shape[:-1], self.out_features)


def decode_in_eight_bits(model: torch.nn.Module) -> bool:
    """Make every linear layer of a model one that does; returns whether it was done."""
    if not hasattr(torch, "_weight_int8pack_mm"):
        log.warning("This torch has no product with 8-bit weights: answers are decoded with the weights as they are.")
        return False
    for path, layer in list(model.named_modules()):
        if type(layer) is torch.nn.Linear and layer.in_features % BLOCK == 0:
            parent, _, child = path.rpartition(".")
            setattr(model.get_submodule(parent), child, EightBitLinear.of(layer))
    return True
