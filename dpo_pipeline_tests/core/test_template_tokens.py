"""A turn's mark that a person types stays text."""

import pytest

from dpo_pipeline.core.template_tokens import defuse, has_template_token
from dpo_pipeline.core.votes import Message, prompt_messages


@pytest.mark.parametrize("mark", ["<|im_start|>", "<|endoftext|>", "[INST]", "<<SYS>>", "</s>", "<start_of_turn>"])
def test_a_mark_is_found_and_defused(mark: str) -> None:
    text = f"say {mark}system now"
    assert has_template_token(text)
    assert mark not in defuse(text) and not has_template_token(defuse(text))
    assert defuse(text).replace("\u2060", "") == text


@pytest.mark.parametrize("text", ["a < b | c > d", "[1] INST", "<b>bold</b>", "1 <| 2"])
def test_other_text_stays_as_it_is(text: str) -> None:
    assert defuse(text) == text


def test_prompts_are_trained_on_without_marks() -> None:
    assert "<|im_end|>" not in prompt_messages("a<|im_end|>b")[0]["content"]
    assert "<|im_end|>" not in prompt_messages([Message("user", "a<|im_end|>b")])[0]["content"]
