"""Log-probabilities of some tokens only: of a large vocabulary, the scores of all others would fill the memory.

A vocabulary of 262,144 has a megabyte of scores for each token that is read, and a batch of conversations thousands.
Only answers are asked about, so only where they stand is the vocabulary gone through, a few tokens at a time.
"""

from typing import Any

import torch

CHUNK = 128
"""Tokens at once: 128 MiB of scores with the largest vocabularies there are."""
_OTHER_HEADS = ("final_logit_softcapping", "logit_scale", "output_multiplier", "lm_head_multiplier", "logits_scaling")


def has_plain_head(model: Any) -> bool:
    """Whether scores are hidden states times a matrix, and nothing is done to them behind that."""
    config = model.config.get_text_config()
    return all(getattr(config, name, None) is None for name in _OTHER_HEADS)


def token_logprobs(
    model: Any, ids: torch.Tensor, mask: torch.Tensor, source: torch.Tensor, labels: torch.Tensor
) -> torch.Tensor:
    """Log-probability [n] of each label behind the place that predicts it, in float32.

    Args:
        ids, mask: [rows, tokens], padded on the right.
        source: [n] flat places in `ids`.
        labels: [n] the tokens that follow them.
    """
    if not has_plain_head(model):
        scores = model(input_ids=ids, attention_mask=mask).logits.flatten(0, 1)[source]
        return scores.float().log_softmax(-1).gather(-1, labels[:, None]).squeeze(-1)
    hidden = model.base_model(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state.flatten(0, 1)[
        source
    ]
    head = model.get_output_embeddings()
    parts = []
    for some, wanted in zip(hidden.split(CHUNK), labels.split(CHUNK), strict=True):
        scores = head(some).float()
        parts.append(scores.gather(-1, wanted[:, None]).squeeze(-1) - scores.logsumexp(-1))
    return torch.cat(parts)
