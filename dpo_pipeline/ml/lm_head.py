"""Log-probabilities of some tokens only: of a large vocabulary, the scores of all others would fill the memory.

A vocabulary of 262,144 has a megabyte of scores for each token that is read, and a batch of conversations thousands.
Only answers are asked about, so only where they stand is the vocabulary gone through, a few thousand of its tokens at a
time. What is kept from part to part is the running maximum and sums beside it (Milakov and Gimelshein, "Online
normalizer calculation for softmax", 2018). To train, the gradient of a log-probability wants the mean of the head's
rows, each weighted by its probability; it is summed up on the same way, so that nothing is gone through twice.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

PART, AT_ONCE = 2_048, 256
"""Tokens of the vocabulary, and of answers, at once: 2 MB of scores, which stay near a core while they are added."""
LARGE = 32_768
"""Vocabularies beyond this are gone through in parts; smaller ones are cheap."""
ROUNDING = 1e-3
"""How far the score of one label may differ between two ways to add it up."""


def has_plain_head(model: Any) -> bool:
    """Whether scores are hidden states times a matrix, with nothing done to them behind that; tried on a few tokens."""
    head, training = model.get_output_embeddings(), model.training
    if head is None:
        return False
    ids = torch.arange(4, device=head.weight.device)[None] % len(head.weight)
    try:
        with torch.no_grad():
            model.eval()
            scores = model(input_ids=ids, use_cache=False).logits
            ours = head(model.base_model(input_ids=ids, use_cache=False).last_hidden_state)
    finally:
        model.train(training)
    return scores.shape == ours.shape and bool(torch.allclose(scores.float(), ours.float(), atol=1e-2, rtol=1e-2))


def token_logprobs(
    model: Any, ids: torch.Tensor, mask: torch.Tensor, source: torch.Tensor, labels: torch.Tensor, plain: bool
) -> torch.Tensor:
    """Log-probability [n] of each label behind the place that predicts it, in float32.

    Args:
        ids, mask: [rows, tokens], padded on the right.
        source: [n] flat places in `ids`.
        labels: [n] the tokens that follow them.
        plain: see `has_plain_head`.
    """
    head = model.get_output_embeddings()
    if not plain or head.bias is not None:
        scores = model(input_ids=ids, attention_mask=mask).logits.flatten(0, 1)[source]
        return scores.float().log_softmax(-1).gather(-1, labels[:, None]).squeeze(-1)
    read = model.base_model(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
    log_probs, *_ = score_in_parts(read.flatten(0, 1)[source], head.weight, labels)
    return log_probs


def is_large(head: Any) -> bool:
    """Whether `score_in_parts` takes this head, and is worth it: on a GPU the kernel of TRL is."""
    return head.weight.device.type == "cpu" and head.bias is None and len(head.weight) > LARGE


def score_in_parts(hidden: torch.Tensor, weight: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Of each of n tokens: log-probability of its label, entropy, mean score, whether no other token is more likely.

    In float32. Only the first has a gradient, and only for `hidden`.

    Args:
        hidden: [n, width].
        weight: [vocabulary, width], frozen.
        labels: [n].
    """
    log_probs, entropy, mean, is_top = _InParts.apply(hidden, weight, labels)
    return log_probs, entropy, mean, is_top


class _InParts(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: torch.Tensor, weight: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, ...]:
        # In the numbers of the head, as the model would, but scores are added up in float32 and stay so; of the
        # gradient's mean alone the parts are rounded.
        asked, rows = hidden.to(weight.dtype).float(), weight.detach()
        said = rows[labels].float()
        some = [
            _score_some(*each, rows, ctx.needs_input_grad[0])
            for each in zip(asked.split(AT_ONCE), said.split(AT_ONCE), strict=True)
        ]
        log_probs, entropy, mean, is_top, direction = (torch.cat(each) for each in zip(*some, strict=True))
        ctx.save_for_backward(direction)
        ctx.dtype = hidden.dtype
        ctx.mark_non_differentiable(entropy, mean, is_top)
        return log_probs, entropy, mean, is_top

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        [direction] = ctx.saved_tensors
        return (gradients[0][:, None] * direction).to(ctx.dtype), None, None


def _score_some(
    asked: torch.Tensor, said: torch.Tensor, rows: torch.Tensor, wants_gradient: bool
) -> tuple[torch.Tensor, ...]:
    """What `score_in_parts` tells of some tokens, and the gradient of the first of it.

    Args:
        asked, said: [n, width], hidden states and the head's rows of their labels, in float32.
        rows: [vocabulary, width], the head.
        wants_gradient: without it, there is none [n, 0].
    """
    of_label = (asked * said).sum(-1)
    top, total, surplus = of_label.clone(), torch.zeros_like(of_label), torch.zeros_like(of_label)
    expected, mean = torch.zeros_like(asked) if wants_gradient else asked[:, :0], torch.zeros_like(of_label)
    for part in rows.split(PART):
        wide = part.float()
        mean += asked @ wide.sum(0) / len(rows)
        with _products_of_bfloat16(part):
            scores = asked @ wide.T
        higher = torch.maximum(top, scores.amax(-1))
        beneath = scores.sub_(higher[:, None])
        shares, shrunk = beneath.exp(), (top - higher).exp()
        # Of every token the share times what its score lies beneath the maximum, which entropy is made of.
        surplus = shrunk * (surplus + (top - higher) * total) + torch.linalg.vecdot(shares, beneath)
        total = shrunk * total + shares.sum(-1)
        if wants_gradient:
            expected.mul_(shrunk[:, None]).add_((shares.to(part.dtype) @ part).float())
        top = higher
    direction = said - expected / total[:, None] if wants_gradient else expected
    return of_label - top - total.log(), total.log() - surplus / total, mean, top - of_label < ROUNDING, direction


@contextmanager
def _products_of_bfloat16(part: torch.Tensor) -> Iterator[None]:
    """Where both sides of a product in float32 came from bfloat16, its unit may multiply them: nothing is lost."""
    matmul = torch.backends.mkldnn.matmul
    before = matmul.fp32_precision
    if part.dtype == torch.bfloat16:
        matmul.fp32_precision = "bf16"
    try:
        yield
    finally:
        matmul.fp32_precision = before
