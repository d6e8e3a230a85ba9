"""Log-probabilities of some tokens only: of a large vocabulary, the scores of all others would fill the memory.

A vocabulary of 262,144 has a megabyte of scores for each token that is read, and a batch of conversations thousands.
Only answers are asked about, so only where they stand is the vocabulary gone through, a few tokens at a time.

To train on a processor, a pass over the vocabulary costs more than all layers of a small model, and needs three:
scores, scores again for their gradient, and the gradient. Here it is two in one. What the gradient of a log-probability
wants is the mean of the head's rows, each weighted by its probability: attention of the hidden states over the rows,
with the rows as keys and values. PyTorch's attention for processors never holds the scores, adds up in float32, and
tells the logarithm of their sum as well, but in a function of its own only (`ATTENTION`). In a version of torch without
it, TRL's kernel takes its place, which is slower and changes nothing else.
"""

import math
from typing import Any

import torch

CHUNK = 128
"""Tokens at once: 128 MiB of scores with the largest vocabularies there are."""
LARGE = 32_768
"""Vocabularies beyond this are gone through by attention; smaller ones are cheap."""
ATTENTION = "_scaled_dot_product_flash_attention_for_cpu"
"""Of `torch.ops.aten`."""


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
    if not plain:
        scores = model(input_ids=ids, attention_mask=mask).logits.flatten(0, 1)[source]
        return scores.float().log_softmax(-1).gather(-1, labels[:, None]).squeeze(-1)
    read = model.base_model(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
    hidden = read.flatten(0, 1)[source]
    head = model.get_output_embeddings()
    parts = []
    for some, wanted in zip(hidden.split(CHUNK), labels.split(CHUNK), strict=True):
        scores = head(some).float()
        parts.append(scores.gather(-1, wanted[:, None]).squeeze(-1) - scores.logsumexp(-1))
    return torch.cat(parts)


def by_attention(head: Any) -> bool:
    """Whether `score_by_attention` is there for this head, and worth it."""
    weight = head.weight
    there = getattr(torch.ops.aten, ATTENTION, None) is not None
    return there and weight.device.type == "cpu" and head.bias is None and len(weight) > LARGE


def score_by_attention(hidden: torch.Tensor, weight: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Of each of n tokens: log-probability of its label, entropy, mean score, whether the label is the most likely one.

    Only the first has a gradient, and only for `hidden`. The last says so where more than half of the probability is
    the label's; of others it is not known.

    Args:
        hidden: [n, width].
        weight: [vocabulary, width], frozen.
        labels: [n].
    """
    if not len(labels):  # the kernel divides by their number
        none = hidden.sum(-1).float()
        return none, none.detach(), none.detach(), none > 0
    log_probs, entropy, mean, surely = _ByAttention.apply(hidden, weight, labels)
    return log_probs, entropy, mean, surely


class _ByAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: torch.Tensor, weight: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, ...]:
        attend = getattr(torch.ops.aten, ATTENTION)
        asked, rows = hidden.detach().to(weight.dtype), weight.detach()
        weighted, log_sum = attend(asked[None, None], rows[None, None], rows[None, None], 0.0, False, scale=1.0)
        expected, said, wide = weighted[0, 0].float(), rows[labels].float(), asked.float()
        log_sum = log_sum.flatten()
        log_probs = (wide * said).sum(-1) - log_sum
        entropy = log_sum - (wide * expected).sum(-1)
        mean = wide @ rows.mean(0).float()
        surely = log_probs > -math.log(2)
        ctx.save_for_backward(said - expected)
        ctx.dtype = hidden.dtype
        ctx.mark_non_differentiable(entropy, mean, surely)
        return log_probs, entropy, mean, surely

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        [direction] = ctx.saved_tensors
        return (gradients[0][:, None] * direction).to(ctx.dtype), None, None
