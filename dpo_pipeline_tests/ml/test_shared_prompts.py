"""Packed pairs give TRL's numbers and TRL's gradients."""

from pathlib import Path
from typing import Any

import pytest

from dpo_pipeline.ml.base_model import load_base, locate_base
from dpo_pipeline.settings import Settings

pytestmark = pytest.mark.slow
PROMPTS, CHOSEN, REJECTED = (7, 3, 12), (9, 1, 20), (4, 6, 1)


def batch(vocabulary: int) -> dict[str, Any]:
    """Three pairs as TRL collates them: chosen rows, then rejected rows, padded on the right."""
    import torch

    draw = torch.Generator().manual_seed(3)
    prompts = [torch.randint(3, vocabulary, (n,), generator=draw) for n in PROMPTS]
    answers = [torch.randint(3, vocabulary, (n,), generator=draw) for n in CHOSEN + REJECTED]
    rows = [torch.cat([prompts[i % 3], answer]) for i, answer in enumerate(answers)]
    width = max(map(len, rows))
    ids, attention, labels = (torch.full((6, width), fill) for fill in (0, 0, -100))
    for i, row in enumerate(rows):
        ids[i, : len(row)], attention[i, : len(row)] = row, 1
        labels[i, PROMPTS[i % 3] : len(row)] = row[PROMPTS[i % 3] :]
    return {"input_ids": ids, "attention_mask": attention, "labels": labels}


def results(model: Any, inputs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """The output, and the gradient of something that weighs every token differently."""
    import torch

    model.zero_grad()
    output = model(**inputs, use_cache=False, fused_lm_head=True)
    weights = torch.arange(output.log_probs.numel()).view_as(output.log_probs) / 100
    (output.log_probs * weights).sum().backward()
    return output, {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def test_packed_pairs_give_trls_numbers_and_gradients(project: Settings, baseline: Path) -> None:
    import torch
    from peft import PeftModel
    from trl.trainer.utils import add_fused_lm_head

    from dpo_pipeline.ml.shared_prompts import share_prompts
    from dpo_pipeline.ml.trl_private import OUTPUTS

    base, _ = load_base(locate_base(project).directory, project.model)
    model = PeftModel.from_pretrained(base, baseline, is_trainable=True).eval()
    add_fused_lm_head(model.get_base_model(), outputs=OUTPUTS)
    inputs = batch(base.config.vocab_size)
    expected, their_gradients = results(model, inputs)
    share_prompts(model.get_base_model())
    found, our_gradients = results(model, inputs)
    for name in (*OUTPUTS, "loss"):
        assert torch.allclose(getattr(found, name).float(), getattr(expected, name).float(), atol=2e-4), name
    assert our_gradients.keys() == their_gradients.keys() and our_gradients
    for name, gradient in our_gradients.items():
        assert torch.allclose(gradient, their_gradients[name], atol=2e-3, rtol=1e-3), name


def large(vocabulary: int = 40_000) -> Any:
    """A Gemma of a few layers with random weights: a large vocabulary, and a window that each pair fits into."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig

    torch.manual_seed(0)
    config = Gemma3TextConfig(
        vocab_size=vocabulary, hidden_size=48, intermediate_size=64, num_hidden_layers=3, num_attention_heads=2,
        num_key_value_heads=1, head_dim=24, sliding_window=64,
        layer_types=["sliding_attention", "full_attention", "sliding_attention"],
    )  # fmt: skip
    adapter = LoraConfig(r=4, target_modules=["q_proj", "v_proj", "down_proj"], init_lora_weights=False)
    return get_peft_model(Gemma3ForCausalLM(config), adapter).eval()


@pytest.mark.parametrize("packed", [True, False])
def test_a_large_vocabulary_gone_through_in_parts_gives_the_same(packed: bool) -> None:
    import torch
    from trl.trainer.utils import add_fused_lm_head

    from dpo_pipeline.ml.lm_head import is_large
    from dpo_pipeline.ml.shared_prompts import share_prompts
    from dpo_pipeline.ml.trl_private import OUTPUTS

    model = large()
    assert is_large(model.get_base_model().get_output_embeddings())
    add_fused_lm_head(model.get_base_model(), outputs=OUTPUTS)
    inputs = batch(40_000)
    if not packed:
        inputs["input_ids"][4, 0] += 1
    expected, their_gradients = results(model, inputs)
    share_prompts(model.get_base_model())
    found, our_gradients = results(model, inputs)
    answered = inputs["labels"][:, 1:] != -100
    for name in ("log_probs", "entropy", "mean_logits"):
        ours, theirs = getattr(found, name).float(), getattr(expected, name).float()
        assert torch.allclose(ours[answered], theirs[answered], atol=2e-4), name
    assert torch.equal(found.is_top1[answered].bool(), expected.is_top1[answered].bool())
    assert torch.allclose(found.loss, expected.loss, atol=1e-4)
    assert our_gradients.keys() == their_gradients.keys() and our_gradients
    for name, gradient in our_gradients.items():
        assert torch.allclose(gradient, their_gradients[name], atol=2e-3, rtol=1e-3), name


def test_log_probabilities_of_answers_are_those_of_the_whole_vocabulary() -> None:
    import torch

    from dpo_pipeline.ml.lm_head import token_logprobs

    model, inputs = large().get_base_model(), batch(40_000)
    ids, mask, labels = inputs["input_ids"], inputs["attention_mask"], inputs["labels"]
    answered = torch.nn.functional.pad(labels[:, 1:] != -100, (0, 1)).flatten()
    source = answered.nonzero().flatten()
    with torch.inference_mode():
        found = token_logprobs(model, ids, mask, source, ids.flatten()[source + 1], plain=True)
        scores = model(input_ids=ids, attention_mask=mask).logits.log_softmax(-1).flatten(0, 1)[source]
    assert torch.allclose(found, scores.gather(-1, ids.flatten()[source + 1][:, None]).squeeze(-1), atol=1e-4)


def test_the_rejected_answer_does_not_see_the_chosen_one() -> None:
    from dpo_pipeline.ml.shared_prompts import pack

    packed = pack(**{{"attention_mask": "attention", "input_ids": "ids"}.get(k, k): v for k, v in batch(50).items()})
    assert packed is not None and [some.ids.shape for some in packed] == [(3, 12 + 20 + 1)]
    second = packed[0].mask[1, 0]  # rows stand in order of their length: of the three the first is in the middle
    assert not second[7 + 9 : 7 + 9 + 4, 7 : 7 + 9].any() and second[7 + 9, :7].all()
    assert packed[0].positions[1, 7 + 9] == 7


def test_rows_are_read_with_others_of_like_length() -> None:
    from dpo_pipeline.ml.shared_prompts import alike_in_length

    assert alike_in_length([900, 10, 400, 300, 12, 290], enough=900) == [[1, 4, 5], [3, 2], [0]]
    assert alike_in_length([900, 10], enough=None) == [[0, 1]]


def test_rows_that_share_no_prompt_are_left_to_trl() -> None:
    from dpo_pipeline.ml.shared_prompts import pack

    inputs = batch(50)
    inputs["input_ids"][4, 0] += 1
    assert pack(inputs["input_ids"], inputs["attention_mask"], inputs["labels"]) is None


@pytest.mark.parametrize("there", [None, object()], ids=["null", "another"])
def test_a_trl_that_has_the_name_and_no_such_kernel_scores_by_itself(
    there: object, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As TRL 1.15 on a machine without Triton."""
    from trl.trainer import utils

    from dpo_pipeline.ml.trl_private import scoring_kernel

    monkeypatch.setattr(utils, "_ChunkedLogProbFunction", there)
    scoring_kernel.cache_clear()
    try:
        assert scoring_kernel() is None and "prompts of pairs are read twice" in caplog.text
    finally:
        scoring_kernel.cache_clear()
