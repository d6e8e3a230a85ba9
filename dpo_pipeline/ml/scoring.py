"""The automatic evaluation: length, coherence, factuality, sentiment, weighted. Each says what it is blind to.

A judge compares two answers to one question; nothing here knows which version wrote which.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from dpo_pipeline.core.judging import Comparison, Judgement, by_scores, reference_score
from dpo_pipeline.core.questions import Question
from dpo_pipeline.ml.generation import Generator, ScoredAnswer
from dpo_pipeline.settings import Evaluation, JudgeWeights


@dataclass(frozen=True)
class Scores:
    """Each in [0, 1]; `total` is the weighted mean."""

    length: float
    coherence: float
    factuality: float
    sentiment: float
    total: float


def length_score(answer: str, reference: str) -> float:
    """Words over words of the reference, at most 1. Blind to what the words say, and to padding."""
    return min(len(answer.split()) / max(len(reference.split()), 1), 1.0)


def factuality_score(answer: str, question: Question) -> float:
    """Half for the essential fact, half for the share of the others.

    A question without facts has `reference_score` against its true and wrong answers, one without a reference 0. Blind
    to false statements beside true ones.
    """
    if not question.facts:
        right = (question.reference, *question.detailed) if question.reference else ()
        return reference_score(answer, right, question.wrong)
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

    name = "automatic"
    blind_to = "meaning: it looks for known facts and wants the reference's length; a false sentence beside them passes"

    # `test_the_automatic_judge_itself_against_people` measures and asserts it where those data are present.
    elsewhere = (
        "on questions whose facts it does not know it is no better than a coin: it sides with people in 44 % of their "
        "pairs and picks the true one of a true and a false answer in 36 %; in 67 % where it has references of both"
    )

    def __init__(self, generator: Generator, evaluation: Evaluation):
        from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

        self._generator = generator
        self._sentiment = SentimentIntensityAnalyzer()
        self._weights, self._tie_margin = evaluation.weights, evaluation.tie_margin
        self._without_reference = evaluation.weights.model_copy(update={"length": 0.0, "factuality": 0.0})

    def compare(self, comparisons: Sequence[Comparison]) -> list[Judgement]:
        scores = self.score([(each.question, text) for each in comparisons for text in (each.answer, each.other)])
        pairs = zip(scores[::2], scores[1::2], strict=True)
        return [by_scores(score.total, other.total, self._tie_margin) for score, other in pairs]

    def score(self, answers: Sequence[tuple[Question, str]]) -> list[Scores]:
        """Where a question has no reference, only coherence and sentiment speak."""
        rows = [ScoredAnswer((("user", question.question),), text, None) for question, text in answers]
        return [
            combine(
                length_score(text, question.reference),
                coherence_score(fmean(likelihoods)),
                factuality_score(text, question),
                sentiment_score(text, self._sentiment),
                self._weights if question.facts or question.reference else self._without_reference,
            )
            for (question, text), likelihoods in zip(answers, self._generator.logprobs(rows), strict=True)
        ]


def combine(length: float, coherence: float, factuality: float, sentiment: float, weights: JudgeWeights) -> Scores:
    """The weighted mean, weights divided by their sum; 0 where all weights are."""
    total = weights.length + weights.coherence + weights.factuality + weights.sentiment
    weighted = (
        weights.length * length
        + weights.coherence * coherence
        + weights.factuality * factuality
        + weights.sentiment * sentiment
    )
    return Scores(length, coherence, factuality, sentiment, weighted / total if total else 0.0)
