"""The next token of every row, drawn by settings and random numbers of its own."""

from collections.abc import Sequence
from typing import Any

import torch

from dpo_pipeline.ml.row import Row

TRIES = 64
BLOCK = 512
"""Running sums over a vocabulary are made of its blocks first: a sum can be shared out among threads, those cannot."""


class Sampler:
    """Nucleus sampling with settings and random numbers of its own for every row.

    By rejection, which needs no sorting: draw from the whole distribution and keep the token when
    the tokens more likely than it hold less than top_p. That is a draw from the nucleus, because the
    nucleus holds at least top_p, so few are drawn twice.
    """

    def __init__(self, rows: Sequence[Row], device: Any):
        self._rows = rows
        temperature = torch.tensor([[row.temperature] for row in rows], device=device)
        self._cold = [i for i, row in enumerate(rows) if row.temperature == 0]
        self._hot = [i for i, row in enumerate(rows) if row.temperature > 0]
        self._temperature = temperature.masked_fill(temperature == 0, 1.0)
        self._top_p = torch.tensor([[row.top_p] for row in rows], device=device)

    def __call__(self, scores: torch.Tensor) -> torch.Tensor:
        """Tokens [rows, 1] from scores [rows, vocabulary]."""
        mass = scores - scores.amax(1, keepdim=True)
        mass.div_(self._temperature).exp_()
        blocks = _in_blocks(mass)
        cumulated = blocks.sum(2).cumsum(1)
        tokens = torch.zeros(len(self._rows), 1, dtype=torch.long, device=scores.device)
        left = self._hot
        for _ in range(TRIES):
            if not left:
                break
            index = slice(None) if len(left) == len(self._rows) else torch.tensor(left, device=scores.device)
            drawn, likelier = self._draw(mass[index], blocks[index], cumulated[index], left)
            tokens[index], kept = drawn, likelier < (self._top_p * cumulated[:, -1:])[index]
            left = [i for i, done in zip(left, kept.flatten().tolist(), strict=True) if not done]
        if likeliest := self._cold + left:  # greedy, or a nucleus too small to be hit: then it is one token
            tokens[likeliest] = mass[likeliest].argmax(1, keepdim=True)
        return tokens

    def _draw(
        self, mass: torch.Tensor, blocks: torch.Tensor, cumulated: torch.Tensor, rows: Sequence[int]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """One draw for each of these rows, and how much lies in the tokens likelier than it; both [rows, 1].

        Args:
            blocks: the same mass, [rows, blocks, BLOCK]; `cumulated` [rows, blocks]: how much lies in all up to each.
        """
        draws = torch.tensor([[self._rows[i].random.random()] for i in rows], device=mass.device) * cumulated[:, -1:]
        block = _first_beyond(draws, cumulated)
        found = blocks[torch.arange(len(blocks), device=mass.device), block[:, 0]]
        before = cumulated.gather(1, block) - found.sum(1, keepdim=True)
        drawn = block * BLOCK + _first_beyond((draws - before).clamp_min_(0), found.cumsum(1))
        limits = mass.gather(1, drawn).flatten().tolist()
        likelier = [torch.threshold(row, limit, 0.0).sum() for row, limit in zip(mass, limits, strict=True)]
        return drawn, torch.stack(likelier)[:, None]


def _first_beyond(draws: torch.Tensor, cumulated: torch.Tensor) -> torch.Tensor:
    """In each row the first place up to which more lies than was drawn, [rows, 1]: never one that holds nothing."""
    return torch.searchsorted(cumulated, torch.minimum(draws, cumulated[:, -1:] * (1 - 1e-6)), right=True)


def _in_blocks(mass: torch.Tensor) -> torch.Tensor:
    """[rows, vocabulary] as [rows, blocks, BLOCK]; the last one is filled up with nothing."""
    lacking = -mass.shape[1] % BLOCK
    filled = torch.nn.functional.pad(mass, (0, lacking)) if lacking else mass
    return filled.view(len(mass), -1, BLOCK)
