"""A pair's two answers in one row, so that their prompt is read once; and no score of what is no answer.

TRL reads prompt + chosen and prompt + rejected as two padded rows and scores every position. Here a
pair is one row

    prompt | chosen | rejected

in which the rejected answer does not see the chosen one and its positions go on after the prompt,
and only the answers' tokens are scored. The numbers are TRL's (tested, with their gradients); the
tokens to compute are about half. On a processor rows of like length are read together, since whoever pads
a short row to a long one computes the padding. What the loss is remains TRL's.
"""

import types
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from dpo_pipeline.ml.lm_head import has_plain_head, is_large, score_in_parts
from dpo_pipeline.ml.trl_private import OUTPUTS, ScoringKernel, scoring_kernel

_STATES = ("layers_block_type", "block_types", "mamba_d_conv", "conv_kernel", "conv_L_cache", "linear_conv_kernel_dim")
PLAIN_INPUTS = {"input_ids", "attention_mask", "labels", "num_items_in_batch", "use_cache"}
ENOUGH = 1_024
"""Tokens that keep a processor busy: rows that come to more are not read together, since padding costs more then."""


@dataclass(frozen=True)
class Packed:
    """B pairs in rows of N tokens.

    `ids` and `positions` [B, N], `mask` [B, 1, N, N] (true: may see). For every answer token:
    `source`, the flat place in [B, N] of the hidden state that predicts it, and `place`, its flat place
    in TRL's [2B, T − 1].
    """

    ids: torch.Tensor
    positions: torch.Tensor
    mask: torch.Tensor
    source: torch.Tensor
    place: torch.Tensor


def share_prompts(model: Any) -> None:
    """Give a causal model with TRL's fused head a forward that packs pairs; others are left as they are."""
    kernel = scoring_kernel()
    if kernel is None or getattr(model, "shares_prompts", False):
        return
    config = model.config.get_text_config()
    if not has_plain_head(model) or not _sees_masks_alone(config) or getattr(config, "output_router_logits", False):
        return
    window = getattr(config, "sliding_window", None)
    fused = model.forward

    def forward(self: Any, *args: Any, fused_lm_head: bool = False, **kwargs: Any) -> Any:
        packed = None
        # Both answers go on from the prompt's end, so a pair that fits into a window one by one does so packed.
        if fused_lm_head and not args and (not window or kwargs["input_ids"].shape[1] <= window):
            packed = pack(kwargs["input_ids"], kwargs["attention_mask"], kwargs["labels"])
        if packed is None:
            if fused_lm_head and not args and kwargs.keys() <= PLAIN_INPUTS and is_large(self.get_output_embeddings()):
                return _answers_only(kernel, self, **kwargs)
            return fused(*args, **({"fused_lm_head": True} if fused_lm_head else {}), **kwargs)
        tokens = []
        for some in packed:
            hidden = self.base_model(
                input_ids=some.ids, attention_mask=some.mask, position_ids=some.positions, use_cache=False
            ).last_hidden_state
            tokens.append(hidden.flatten(0, 1)[some.source])
        return _scored(kernel, self.get_output_embeddings(), torch.cat(tokens), packed, kwargs["labels"])

    model.forward = types.MethodType(forward, model)
    model.shares_prompts = True


def _sees_masks_alone(config: Any) -> bool:
    """Whether nothing but attention, and it by the mask that it is given, carries one token's meaning to another.

    Convolutions and states would carry the chosen answer into the rejected one.
    """
    attends = set(getattr(config, "layer_types", None) or ()) <= {"full_attention", "sliding_attention"}
    carries = any(getattr(config, name, None) for name in _STATES)
    return config._attn_implementation == "sdpa" and attends and not carries


def pack(ids: torch.Tensor, attention: torch.Tensor, labels: torch.Tensor) -> list[Packed] | None:
    """TRL's batch, chosen rows [0, B) above rejected ones [B, 2B), padded on the right, as packed pairs.

    Null where a pair's two rows do not begin with the same prompt, or an answer was cut off whole.
    """
    half, width = len(ids) // 2, ids.shape[1]
    ends = attention.sum(1).tolist()
    answered = labels != -100
    starts = answered.int().argmax(1).tolist()
    if not answered.any(1).all() or starts[:half] != starts[half:] or not attention[:, 0].all():
        return None
    prompts = torch.arange(width, device=ids.device) < torch.tensor(starts[:half], device=ids.device)[:, None]
    if ((ids[:half] != ids[half:]) & prompts).any():
        return None
    lengths = [ends[i] + ends[half + i] - starts[i] for i in range(half)]
    enough = ENOUGH if ids.device.type == "cpu" else None
    return [_packed(ids, starts, ends, pairs) for pairs in alike_in_length(lengths, enough)]


def alike_in_length(lengths: Sequence[int], enough: int | None) -> list[list[int]]:
    """Rows in groups to be read together, so that few tokens are padding; all in one where `enough` is null.

    Shortest first; a group has at most so many tokens, padding included, or is a single row.
    """
    if enough is None:
        return [list(range(len(lengths)))]
    groups: list[list[int]] = []
    for row in sorted(range(len(lengths)), key=lengths.__getitem__):
        if groups and lengths[row] * (len(groups[-1]) + 1) <= enough:
            groups[-1].append(row)
        else:
            groups.append([row])
    return groups


def _packed(ids: torch.Tensor, starts: list[int], ends: list[int], pairs: list[int]) -> Packed:
    """Some pairs of TRL's batch, padded to the longest of them."""
    half, width = len(ids) // 2, ids.shape[1]
    longest = max(ends[i] + ends[half + i] - starts[i] for i in pairs)
    rows, positions, segments = [], [], []
    sources: list[int] = []
    places: list[int] = []
    for row, i in enumerate(pairs):
        start, chosen, rejected = starts[i], ends[i], ends[half + i]
        pad = longest - chosen - rejected + start
        rows.append(torch.nn.functional.pad(torch.cat([ids[i, :chosen], ids[half + i, start:rejected]]), (0, pad)))
        positions.append([*range(chosen), *range(start, rejected), *[0] * pad])
        segments.append([0] * start + [1] * (chosen - start) + [2] * (rejected - start) + [3] * pad)
        first = row * longest
        sources += [*range(first + start - 1, first + chosen - 1), first + start - 1]
        sources += range(first + chosen, first + chosen + rejected - start - 1)
        places += range(i * (width - 1) + start - 1, i * (width - 1) + chosen - 1)
        places += range((half + i) * (width - 1) + start - 1, (half + i) * (width - 1) + rejected - 1)
    return Packed(
        ids=torch.stack(rows),
        positions=torch.tensor(positions, device=ids.device),
        mask=_mask(torch.tensor(segments, device=ids.device)),
        source=torch.tensor(sources, device=ids.device),
        place=torch.tensor(places, device=ids.device),
    )


def _mask(segments: torch.Tensor) -> torch.Tensor:
    """Who sees whom: what stands before it; the rejected answer (2) not the chosen one (1), nobody the padding (3)."""
    seen, by = segments[:, None, :], segments[:, :, None]
    causal = torch.ones(segments.shape[1], segments.shape[1], dtype=torch.bool, device=segments.device).tril()
    # A padded position sees itself: a row of the mask that is false throughout would give NaN.
    itself = torch.eye(segments.shape[1], dtype=torch.bool, device=segments.device)
    return ((causal & (seen != 3) & ~((by == 2) & (seen == 1))) | itself)[:, None]


def _scored(kernel: ScoringKernel, head: Any, hidden: torch.Tensor, packed: list[Packed], labels: torch.Tensor) -> Any:
    """TRL's kernel over the answers' tokens, its results where TRL looks for them."""
    place = torch.cat([some.place for some in packed])
    results = _in_place(kernel, head, hidden, place, labels)
    loss = -results["log_probs"].sum() / len(place)
    return kernel.output(loss=loss, label_mask=labels[:, 1:] != -100, **results)


def _answers_only(
    kernel: ScoringKernel,
    model: Any,
    input_ids: torch.Tensor,
    labels: torch.Tensor,
    attention_mask: torch.Tensor | None = None,
    num_items_in_batch: torch.Tensor | int | None = None,
    use_cache: bool = False,
) -> Any:
    """Rows that cannot be packed: TRL would go through the vocabulary at prompts and padding too."""
    answered = labels[:, 1:] != -100
    mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
    ends = (mask * torch.arange(1, mask.shape[1] + 1)).amax(1).tolist()
    tokens, place = [], []
    for rows in alike_in_length(ends, ENOUGH):
        longest = max(ends[row] for row in rows)
        read = model.base_model(
            input_ids=input_ids[rows, :longest], attention_mask=mask[rows, :longest], use_cache=False
        )
        there = answered[rows, : longest - 1]
        tokens.append(read.last_hidden_state[:, : longest - 1][there])
        at = torch.tensor(rows)[:, None] * answered.shape[1] + torch.arange(longest - 1)
        place.append(at[there])
    results = _in_place(kernel, model.get_output_embeddings(), torch.cat(tokens), torch.cat(place), labels)
    loss = -results["log_probs"].sum() / (answered.sum() if num_items_in_batch is None else num_items_in_batch)
    return kernel.output(loss=loss, label_mask=answered, **results)


def _in_place(
    kernel: ScoringKernel, head: Any, hidden: torch.Tensor, place: torch.Tensor, labels: torch.Tensor
) -> dict[str, torch.Tensor]:
    """What `OUTPUTS` names, [rows, tokens − 1]: of the token behind each `place`; elsewhere 0."""
    said = labels[:, 1:]
    asked = said.flatten()[place]
    if is_large(head):
        scores = score_in_parts(hidden, head.weight, asked)
    else:
        scores = kernel.score(hidden, head.weight, head.bias, asked)
    return {
        name: result.new_zeros(said.numel()).index_copy(0, place, result).view(said.shape)
        for name, result in zip(OUTPUTS, scores, strict=True)
    }
