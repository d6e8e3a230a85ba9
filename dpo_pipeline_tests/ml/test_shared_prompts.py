"""Packed pairs give TRL's numbers and TRL's gradients."""

from pathlib import Path
from typing import Any

import pytest
import torch

from dpo_pipeline.ml.base_model import load_base, locate_base
from dpo_pipeline.settings import Settings

pytestmark = pytest.mark.slow
PROMPTS, CHOSEN, REJECTED = (7, 3, 12), (9, 1, 20), (4, 6, 1)


def batch(vocabulary: int) -> dict[str, torch.Tensor]:
    """Three pairs as TRL collates them: chosen rows, then rejected rows, padded on the right."""
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


def results(model: Any, inputs: dict[str, torch.Tensor]) -> tuple[Any, dict[str, torch.Tensor]]:
    """The output, and the gradient of something that weighs every token differently."""
    model.zero_grad()
    output = model(**inputs, use_cache=False, fused_lm_head=True)
    weights = torch.arange(output.log_probs.numel()).view_as(output.log_probs) / 100
    (output.log_probs * weights).sum().backward()
    return output, {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def test_packed_pairs_give_trls_numbers_and_gradients(project: Settings, baseline: Path) -> None:
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


def test_the_rejected_answer_does_not_see_the_chosen_one() -> None:
    from dpo_pipeline.ml.shared_prompts import pack

    packed = pack(**{{"attention_mask": "attention", "input_ids": "ids"}.get(k, k): v for k, v in batch(50).items()})
    assert packed is not None and packed.ids.shape == (3, 12 + 20 + 1)
    first = packed.mask[0, 0]
    assert not first[7 + 9 : 7 + 9 + 4, 7 : 7 + 9].any() and first[7 + 9, :7].all()
    assert packed.positions[0, 7 + 9] == 7


def test_rows_that_share_no_prompt_are_left_to_trl() -> None:
    from dpo_pipeline.ml.shared_prompts import pack

    inputs = batch(50)
    inputs["input_ids"][4, 0] += 1
    assert pack(inputs["input_ids"], inputs["attention_mask"], inputs["labels"]) is None
