"""Synthetic pairs: questions said in other words, answered by two versions, kept where one answer is clearly better.

Off by default. They are marked, at most a set share of what is trained on, never part of an evaluation, and never a
paraphrase of a question that versions are judged on.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import replace

from rapidfuzz import fuzz

from dpo_pipeline.core.dataset import Pair, Split, content_hash
from dpo_pipeline.core.judging import Judgement
from dpo_pipeline.core.questions import Question
from dpo_pipeline.core.votes import prompt_key, prompt_text

NEAR = 90.0
"""Token-set similarity in per cent from which a question is taken for a paraphrase of another."""
_FORMS = (
    "Could you tell me: {question}",
    "I would like to know: {question}",
    "Please answer in your own words: {question}",
    "A friend asked me: {question}",
)


def paraphrases(question: str) -> list[str]:
    """The same question in other words, by fixed forms: they change how it is asked, never what."""
    asked = question[0].lower() + question[1:] if question[1:2].islower() else question
    return [form.format(question=asked) for form in _FORMS]


def is_near(question: str, others: Iterable[str]) -> bool:
    """Whether a question is one of these or a paraphrase of one."""
    text = question.lower()
    return any(fuzz.token_set_ratio(text, other.lower()) >= NEAR for other in others)


def drawn_questions(bank: Sequence[Question], held_out: Sequence[str], count: int, seed: int) -> list[Question]:
    """Paraphrases of `count` questions that may be asked, in an order that hangs on the seed.

    Args:
        held_out: questions that versions are judged on; nothing near one of them is drawn.
    """
    allowed = [each for each in bank if not is_near(each.question, held_out)]
    ordered = sorted(allowed, key=lambda each: hashlib.sha256(f"{seed}:{each.question}".encode()).digest())
    drawn = []
    for number, each in enumerate(ordered[:count]):
        forms = paraphrases(each.question)
        drawn.append(_said(each, forms[(seed + number) % len(forms)]))
    return drawn


def clear_winners(
    questions: Sequence[Question], answers: Sequence[tuple[str, str]], judgements: Sequence[Judgement], margin: float
) -> list[Pair]:
    """The pairs whose scores differ by at least the margin, marked synthetic.

    Raises:
        ValueError: of unequal lengths.
    """
    pairs = []
    for question, (first, second), judgement in zip(questions, answers, judgements, strict=True):
        if judgement.score is None or judgement.other_score is None:
            continue
        difference = judgement.score - judgement.other_score
        if abs(difference) < margin or not first.strip() or not second.strip():
            continue
        chosen, rejected = (first, second) if difference > 0 else (second, first)
        digest = hashlib.sha256(f"{question.question}\0{chosen}\0{rejected}".encode()).hexdigest()
        pairs.append(
            Pair(
                event_id=f"syn-{digest[:24]}",
                prompt=question.question,
                chosen=chosen,
                rejected=rejected,
                category=question.category,
                source="synthetic",
            )
        )
    return pairs


def mixed(split: Split, synthetic: Sequence[Pair], max_share: float, held_out: Sequence[str]) -> Split:
    """The split with synthetic pairs added to what is trained on: at most `max_share` of it, none near a held-out one.

    A prompt of the eval half is left out too: that half stays people's own.
    """
    evaluated = {prompt_key(pair.prompt) for pair in split.eval}
    texts = [*held_out, *(prompt_text(pair.prompt) for pair in split.eval)]
    most = int(max_share * len(split.train) / (1 - max_share))
    fitting = [
        pair
        for pair in synthetic
        if prompt_key(pair.prompt) not in evaluated and not is_near(prompt_text(pair.prompt), texts)
    ]
    added = tuple(fitting[:most])
    if not added:
        return split
    train = (*split.train, *added)
    left_out = {**split.left_out, "synthetic_beyond_share_or_near_evaluation": len(synthetic) - len(added)}
    return replace(split, train=train, left_out=left_out, content_hash=content_hash(train, split.eval, split.labelled))


def _said(question: Question, text: str) -> Question:
    return Question(
        text, question.category, question.terse, question.detailed, question.wrong, question.reference, question.facts
    )
