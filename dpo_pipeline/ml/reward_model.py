"""A judge that is a reward model: any sequence classifier with one output, from a local folder."""

from collections.abc import Sequence
from pathlib import Path

from dpo_pipeline.core.judging import Comparison, Judgement, by_scores
from dpo_pipeline.core.template_tokens import Defuser
from dpo_pipeline.errors import ModelUnavailable
from dpo_pipeline.ml.compute import compute_of
from dpo_pipeline.settings import Settings

BATCH = 16


class RewardModelJudge:
    """Scores each answer by itself and prefers the higher reward."""

    name = "reward_model"
    blind_to = "whatever its own training data did not show; rewards of different models are on different scales"
    elsewhere = ""

    def __init__(self, settings: Settings):
        """
        Raises:
            ModelUnavailable: no folder is named, or it holds no classifier with one output and safetensors weights.
        """
        import torch
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        directory = Path(settings.evaluation.reward_model).expanduser()
        if not settings.evaluation.reward_model or not any(directory.glob("*.safetensors")):
            raise ModelUnavailable(
                f"{directory} holds no safetensors weights; a folder of a reward model was required. Set "
                "DPO_EVALUATION__REWARD_MODEL to one, or DPO_EVALUATION__JUDGE=automatic."
            )
        self._tokenizer = AutoTokenizer.from_pretrained(directory, trust_remote_code=False)
        self._defuse = Defuser(self._tokenizer)
        compute = compute_of(settings.model)
        model = AutoModelForSequenceClassification.from_pretrained(
            directory, dtype=getattr(torch, compute.dtype), trust_remote_code=False
        )
        if model.config.num_labels != 1:
            raise ModelUnavailable(
                f"{directory} has {model.config.num_labels} outputs; a reward model has one. Name another folder."
            )
        if self._tokenizer.pad_token is None:
            self._tokenizer.pad_token = self._tokenizer.eos_token
        model.config.pad_token_id = self._tokenizer.pad_token_id
        self._model = model.to(compute.device).eval()
        self._tie_margin = settings.evaluation.tie_margin

    def compare(self, comparisons: Sequence[Comparison]) -> list[Judgement]:
        scores = self.score(
            [(each.question.question, text) for each in comparisons for text in (each.answer, each.other)]
        )
        return [by_scores(*pair, self._tie_margin) for pair in zip(scores[::2], scores[1::2], strict=True)]

    def score(self, answers: Sequence[tuple[str, str]]) -> list[float]:
        """A reward for each (question, answer)."""
        import torch

        texts = [self._rendered(question, answer) for question, answer in answers]
        longest = min(self._tokenizer.model_max_length, 4096)
        rewards: list[float] = []
        for start in range(0, len(texts), BATCH):
            batch = self._tokenizer(
                texts[start : start + BATCH],
                padding=True,
                truncation=True,
                max_length=longest,
                add_special_tokens=not self._tokenizer.chat_template,
                return_tensors="pt",
            )
            with torch.inference_mode():
                logits = self._model(**batch.to(self._model.device)).logits
            rewards += logits[:, 0].float().tolist()
        return rewards

    def _rendered(self, question: str, answer: str) -> str:
        messages = [
            {"role": "user", "content": self._defuse(question)},
            {"role": "assistant", "content": self._defuse(answer, "assistant")},
        ]
        if self._tokenizer.chat_template:
            return str(self._tokenizer.apply_chat_template(messages, tokenize=False))
        return "\n\n".join(message["content"] for message in messages)
