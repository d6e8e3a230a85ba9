"""The names of TRL that are not its interface. They make training faster; without one, TRL goes its own way.

`DPOTrainer._precompute_ref_logps`: the reference's log-probabilities are kept from run to run, and pairs are packed
from then on. Without it each run computes them, and nothing is packed. `_ChunkedLogProbFunction`,
`_CHUNKED_LOGPROB_CHUNK_SIZE` and `FusedCausalLMOutput` of `trainer.utils`: the prompt of a pair is read once
(`ml.shared_prompts`). Without them it is read twice.

Another version of TRL may have them with other parameters: then they count as gone. What a training needs to be right,
the frozen copy of the start adapter, is checked by `ml.dpo` and never done without.
"""

import inspect
import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

log = logging.getLogger(__name__)
KERNEL = (
    "ctx", "hidden", "weight", "bias", "targets", "temperature", "chunk_size", "final_logit_softcapping",
    "logit_scale", "outputs",
)  # fmt: skip
REFERENCE = ("self", "dataset", "name", "batch_size")
OUTPUTS = ("log_probs", "entropy", "mean_logits", "is_top1")


@dataclass(frozen=True)
class ScoringKernel:
    """TRL's scoring of tokens: per token what `OUTPUTS` names, and the form in which its loss takes them."""

    score: Callable[[Any, Any, Any, Any], tuple[Any, ...]]
    output: Callable[..., Any]


@cache
def scoring_kernel() -> ScoringKernel | None:
    """Null in a version of TRL that has none, or another."""
    try:
        from trl.trainer.utils import _CHUNKED_LOGPROB_CHUNK_SIZE, FusedCausalLMOutput, _ChunkedLogProbFunction
    except ImportError as error:
        _without("prompts of pairs are read twice", str(error))
        return None
    # There are versions that have the name and no kernel: null on a machine without Triton.
    if _parameters(getattr(_ChunkedLogProbFunction, "forward", None)) != KERNEL:
        _without("prompts of pairs are read twice", "its scoring kernel takes other parameters")
        return None

    def score(hidden: Any, weight: Any, bias: Any, targets: Any) -> tuple[Any, ...]:
        results = _ChunkedLogProbFunction.apply(
            hidden, weight, bias, targets, 1.0, _CHUNKED_LOGPROB_CHUNK_SIZE, None, 1.0, OUTPUTS
        )
        return tuple(result for result in results if result is not None)

    return ScoringKernel(score, FusedCausalLMOutput)


@cache
def keeps_references() -> bool:
    """Whether the trainer computes the reference's log-probabilities where we can keep them."""
    from trl import DPOTrainer

    if _parameters(getattr(DPOTrainer, "_precompute_ref_logps", None)) == REFERENCE:
        return True
    _without(
        "the reference is computed again, and prompts of pairs are read twice", "its trainer computes them elsewhere"
    )
    return False


def _parameters(function: Any) -> tuple[str, ...]:
    return tuple(inspect.signature(function).parameters) if function else ()


def _without(consequence: str, cause: str) -> None:
    import trl

    log.warning("trl %s: %s; %s, which takes longer and changes nothing else", trl.__version__, cause, consequence)
