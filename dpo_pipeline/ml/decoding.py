"""The running batch: rows of several versions decode together, join at any step and leave when done.

What a token means in text and which adapter a name stands for belongs to `generation`.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from transformers import DynamicCache

from dpo_pipeline.ml.row import Row
from dpo_pipeline.ml.sampler import Sampler


class DecodeBatch:
    """Rows that decode together over one model; a row's tokens do not depend on its neighbours.

    Keys and values are padded on the left, so all rows end in the same column. Not thread-safe.
    """

    def __init__(self, model: Any, select: Callable[[Sequence[str | None]], None], stop_ids: Sequence[int], pad: int):
        """
        Args:
            model: a causal language model with full attention.
            select: told the adapters of the rows of the next forward pass.
        """
        self._model, self._select, self._pad = model, select, pad
        self._stops = frozenset(stop_ids)
        self.rows: list[Row] = []
        self._cache = DynamicCache()
        self._seen = torch.empty(0, 0, dtype=torch.bool)  # [rows, columns]: false where a row is padded
        self._last = torch.empty(0, 1, dtype=torch.long)  # [rows, 1]: newest token
        self._at = torch.empty(0, 1, dtype=torch.long)  # [rows, 1]: its position
        self._sampler = Sampler([], model.device)

    def join(self, rows: Sequence[Row]) -> list[Row]:
        """Read the prompts of new rows and draw their first tokens; returns those that are done with it."""
        if not rows:
            return []
        device = self._model.device
        longest = max(len(row.prompt) for row in rows)
        ids = torch.tensor([[self._pad] * (longest - len(row.prompt)) + row.prompt for row in rows], device=device)
        starts = torch.tensor([longest - len(row.prompt) for row in rows], device=device)
        columns = torch.arange(longest, device=device)
        seen = columns >= starts[:, None]
        causal = columns[:, None] >= columns
        # A padded column sees itself: a row of the mask that is false throughout would give NaN.
        mask = (seen[:, None] & causal | torch.eye(longest, dtype=torch.bool, device=device))[:, None]
        positions = (columns - starts[:, None]).clamp_min(0)
        cache = DynamicCache()
        self._select([row.adapter for row in rows])
        try:
            with torch.inference_mode():
                scores = self._forward(ids, mask, positions, cache)
                first = Sampler(rows, device)(scores)
                self._merge(cache, seen, first, positions[:, -1:] + 1)
            self.rows += rows
            return self._after(first, rows)
        finally:
            self.settle()

    def step(self) -> list[Row]:
        """Every row takes its next token; returns those that are done with it, which have left."""
        with torch.inference_mode():
            seen = torch.nn.functional.pad(self._seen, (0, 1), value=True)
            scores = self._forward(self._last, seen[:, None, None], self._at, self._cache)
            self._seen, self._last = seen, self._sampler(scores)
            self._at = self._at + 1
        return self._after(self._last, self.rows)

    def leave(self, rows: Sequence[Row]) -> None:
        """Rows leave before they are done; unknown ones are ignored."""
        gone = set(rows)
        staying = [i for i, row in enumerate(self.rows) if row not in gone]
        if len(staying) < len(self.rows):
            self._keep(staying)
            self.settle()

    def settle(self) -> None:
        """Tell the model which adapter each row takes, after rows or adapters have changed."""
        self._sampler = Sampler(self.rows, self._model.device)
        self._select([row.adapter for row in self.rows])

    def _forward(self, ids: torch.Tensor, mask: torch.Tensor, positions: torch.Tensor, cache: Any) -> torch.Tensor:
        """Scores [rows, vocabulary] of the next token."""
        output = self._model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        scores: torch.Tensor = output.logits[:, -1].float()
        return scores

    def _after(self, tokens: torch.Tensor, rows: Sequence[Row]) -> list[Row]:
        for row, [token] in zip(rows, tokens.tolist(), strict=True):
            if token in self._stops:
                row.stopped = True
            else:
                row.tokens.append(token)
        done = [row for row in rows if row.done]
        self.leave(done)
        return done

    def _merge(self, cache: DynamicCache, seen: torch.Tensor, last: torch.Tensor, at: torch.Tensor) -> None:
        if not self.rows:
            self._cache, self._seen, self._last, self._at = cache, seen, last, at
            return
        width = max(seen.shape[1], self._seen.shape[1])
        for ours, new in zip(self._cache.layers, cache.layers, strict=True):
            ours.keys = torch.cat([_widen(ours.keys, width), _widen(new.keys, width)])
            ours.values = torch.cat([_widen(ours.values, width), _widen(new.values, width)])
        pad = torch.nn.functional.pad
        self._seen = torch.cat([pad(mask, (width - mask.shape[1], 0)) for mask in (self._seen, seen)])
        self._last, self._at = torch.cat([self._last, last]), torch.cat([self._at, at])

    def _keep(self, places: list[int]) -> None:
        """Keep these rows, and of their columns those in which any of them has something."""
        self.rows = [self.rows[i] for i in places]
        if not places:
            self._cache, self._seen = DynamicCache(), self._seen[:0, :0]
            self._last, self._at = self._last[:0], self._at[:0]
            return
        index = torch.tensor(places, device=self._seen.device)
        self._seen, self._last, self._at = self._seen[index], self._last[index], self._at[index]
        start = int(self._seen.any(0).int().argmax())
        self._seen = self._seen[:, start:]
        for layer in self._cache.layers:
            layer.keys = layer.keys[index, :, start:]
            layer.values = layer.values[index, :, start:]


def _widen(cached: torch.Tensor, width: int) -> torch.Tensor:
    """Keys or values [rows, heads, columns, size], padded on the left to `width` columns."""
    return torch.nn.functional.pad(cached, (0, 0, width - cached.shape[2], 0))
