"""The automatic evaluation: length, coherence, factuality, sentiment, weighted. Each says what it is blind to.

A judge compares two answers to one question; nothing here knows which version wrote which.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from dpo_pipeline.core.questions import Question
from dpo_pipeline.core.winrate import Outcome
from dpo_pipeline.ml.base_model import BaseModel, load_base
from dpo_pipeline.settings import Evaluation, JudgeWeights, ModelSettings


@dataclass(frozen=True)
class Comparison:
    """Two answers to one question; the outcome is the first one's."""

    question: Question
    answer: str
    other: str


@dataclass(frozen=True)
class Scores:
    """Each in [0, 1]; `total` is the weighted mean."""

    length: float
    coherence: float
    factuality: float
    sentiment: float
    total: float


class Judge(Protocol):
    """Whoever decides between two answers."""

    def compare(self, comparisons: Sequence[Comparison]) -> list[tuple[Outcome, Scores, Scores]]: ...


def length_score(answer: str, reference: str) -> float:
    """Words over words of the reference, at most 1. Blind to what the words say, and to padding."""
    return min(len(answer.split()) / max(len(reference.split()), 1), 1.0)


def factuality_score(answer: str, question: Question) -> float:
    """Half for the essential fact, half for the share of the others. Blind to false statements beside true ones."""
    essential, *others = question.facts_in(answer)
    share = sum(others) / len(others) if others else float(essential)
    return 0.5 * essential + 0.5 * share * essential


def coherence_score(mean_logprob: float) -> float:
    """exp of the mean log-probability of a token under the base model. Blind to fluent nonsense, hard on rare words."""
    return math.exp(mean_logprob)


def sentiment_score(answer: str, analyzer: Any) -> float:
    """VADER's compound sentiment from [-1, 1] to [0, 1]. Blind to whether a friendly tone fits."""
    return float((analyzer.polarity_scores(answer)["compound"] + 1) / 2)


class AutomaticJudge:
    """The default judge: deterministic, needs no network, and prefers what its weights say."""

    def __init__(self, base: BaseModel, model: ModelSettings, evaluation: Evaluation):
        from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

        self._model, self._tokenizer = load_base(base.directory, model)
        self._max_length = model.max_length
        self._sentiment = SentimentIntensityAnalyzer()
        self._weights = evaluation.weights
        self._tie_margin = evaluation.tie_margin

    def compare(self, comparisons: Sequence[Comparison]) -> list[tuple[Outcome, Scores, Scores]]:
        """(outcome of the first answer, its scores, the other's); a difference below the margin is a tie."""
        answers = [(c.question, text) for c in comparisons for text in (c.answer, c.other)]
        scores = self.score(answers)
        return [
            (self._outcome(scores[i].total - scores[i + 1].total), scores[i], scores[i + 1])
            for i in range(0, len(scores), 2)
        ]

    def score(self, answers: Sequence[tuple[Question, str]]) -> list[Scores]:
        likelihoods = self._mean_logprobs([(question.question, text) for question, text in answers])
        return [
            combine(
                length_score(text, question.reference),
                coherence_score(likelihood),
                factuality_score(text, question),
                sentiment_score(text, self._sentiment),
                self._weights,
            )
            for (question, text), likelihood in zip(answers, likelihoods, strict=True)
        ]

    def _outcome(self, difference: float) -> Outcome:
        if abs(difference) < self._tie_margin:
            return "tie"
        return "win" if difference > 0 else "loss"

    def _mean_logprobs(self, rows: Sequence[tuple[str, str]], batch: int = 64) -> list[float]:
        """Mean log-probability a token of each (prompt, answer); an empty answer has that of its end token."""
        import torch

        means: list[float] = []
        device = self._model.device
        for start in range(0, len(rows), batch):
            encoded = [self._encode(prompt, answer) for prompt, answer in rows[start : start + batch]]
            longest = max(len(ids) for ids, _ in encoded)
            ids = torch.zeros(len(encoded), longest, dtype=torch.long, device=device)
            mask, scored = torch.zeros_like(ids), torch.zeros_like(ids, dtype=torch.bool)
            for i, (tokens, prompt_length) in enumerate(encoded):
                ids[i, : len(tokens)] = torch.tensor(tokens)
                mask[i, : len(tokens)] = 1
                scored[i, prompt_length : len(tokens)] = True
            with torch.inference_mode():
                logits = self._model(input_ids=ids, attention_mask=mask).logits[:, :-1].float()
            picked = logits.log_softmax(-1).gather(-1, ids[:, 1:, None]).squeeze(-1)
            kept = scored[:, 1:]
            means += ((picked * kept).sum(1) / kept.sum(1).clamp_min(1)).tolist()
        return means

    def _encode(self, prompt: str, answer: str) -> tuple[list[int], int]:
        text = self._tokenizer.apply_chat_template(
            [{"role": "user", "content": prompt}], add_generation_prompt=True, tokenize=False
        )
        prompt_ids = self._tokenizer(text, add_special_tokens=False)["input_ids"]
        answer_ids = self._tokenizer(answer, add_special_tokens=False)["input_ids"] + [self._tokenizer.eos_token_id]
        kept = (prompt_ids + answer_ids)[: self._max_length]
        return kept, min(len(prompt_ids), len(kept) - 1)


def combine(length: float, coherence: float, factuality: float, sentiment: float, weights: JudgeWeights) -> Scores:
    """The weighted mean, weights divided by their sum."""
    total = weights.length + weights.coherence + weights.factuality + weights.sentiment
    weighted = (
        weights.length * length
        + weights.coherence * coherence
        + weights.factuality * factuality
        + weights.sentiment * sentiment
    )
    return Scores(length, coherence, factuality, sentiment, weighted / total)
