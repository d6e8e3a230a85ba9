"""Parent and candidate answer held-out questions in mixed batches; a judge compares; the verdict is `core`'s."""

import logging
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from dpo_pipeline.core.augmentation import clear_winners, drawn_questions
from dpo_pipeline.core.dataset import Pair
from dpo_pipeline.core.judging import Comparison, Judge, JudgeAgreement, trust
from dpo_pipeline.core.questions import Question, split_bank
from dpo_pipeline.core.safety import SafetyCheck, safety_check
from dpo_pipeline.core.verdict import Drift, JudgedAnswer, Measured
from dpo_pipeline.core.versions import BASELINE
from dpo_pipeline.core.votes import prompt_key
from dpo_pipeline.core.winrate import Outcome
from dpo_pipeline.ml.base_model import BaseModel
from dpo_pipeline.ml.embedded import Progress
from dpo_pipeline.ml.eval_set import EvalSet, HumanVote, unanswered
from dpo_pipeline.ml.generation import GenerationRequest, Generator, ScoredAnswer
from dpo_pipeline.request_errors import InvalidRequest
from dpo_pipeline.settings import Settings
from dpo_pipeline.stores.bank import gating_questions, read_bank

BATCH = 128
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class AdapterRef:
    """An adapter by its hash and folder."""

    sha: str
    directory: Path


def judge_versions(
    settings: Settings,
    base: BaseModel,
    candidate: AdapterRef,
    parent: AdapterRef,
    asked: EvalSet,
    progress: Progress,
    judge: Judge | None = None,
    first: AdapterRef | None = None,
) -> tuple[list[JudgedAnswer], Measured]:
    """Each question answered `samples` times by both, judged in pairs; and what else can be measured of them.

    Args:
        first: v1.0, where it is not the parent: it meets the harmful requests too.
    """
    generator = Generator(base, settings.model)
    for contestant in filter(None, (candidate, parent, first)):
        generator.load(contestant.sha, contestant.directory)
    votes = _told(generator, asked.votes)
    places = [("bank", question) for question in asked.bank for _ in range(settings.evaluation.samples)]
    places += asked.others
    texts = [question.question for _, question in places]
    answers = _answers(generator, settings, texts, (candidate, parent), progress)
    ours, theirs = answers[::2], answers[1::2]
    deciding = judge or make_judge(settings, generator)
    judged = _judged(deciding, places, ours, theirs)
    bank_texts = [(text, answer) for text, answer in zip(texts, ours, strict=True)][: len(texts) - len(asked.others)]
    safety = _safety(generator, settings, asked.harmful, [candidate, parent, *filter(None, (first,))], progress)
    return judged, Measured(
        judge=deciding.name,
        blind_to=deciding.blind_to,
        judge_elsewhere=deciding.elsewhere,
        safety=safety[0],
        safety_since=safety[1] if first else None,
        drift=_drift(generator, candidate, parent, bank_texts, votes),
        trust=_trust(deciding, votes, [*read_bank(settings.bank_dir), *gating_questions(settings)]) if votes else None,
    )


def _told(generator: Generator, votes: Sequence[HumanVote]) -> tuple[HumanVote, ...]:
    """Those on conversations that the model can be told: training leaves the others out too."""
    told = []
    for vote in votes:
        try:
            generator.template.trained(vote.prompt, vote.chosen)
        except InvalidRequest:
            continue
        told.append(vote)
    return tuple(told)


def make_judge(settings: Settings, generator: Generator) -> Judge:
    """The judge that the settings name.

    Raises:
        ModelUnavailable, SettingsError: it cannot be asked, and what to set.
    """
    if settings.evaluation.judge == "reward_model":
        from dpo_pipeline.ml.reward_model import RewardModelJudge

        return RewardModelJudge(settings)
    if settings.evaluation.judge == "llm":
        from dpo_pipeline.ml.llm_judge import LlmJudge

        return LlmJudge(settings)
    from dpo_pipeline.ml.scoring import AutomaticJudge

    return AutomaticJudge(generator, settings.evaluation)


def _judged(
    judge: Judge, places: Sequence[tuple[str, Question]], ours: Sequence[str], theirs: Sequence[str]
) -> list[JudgedAnswer]:
    rows = list(zip(places, ours, theirs, strict=False))
    judgements = judge.compare([Comparison(question, answer, other) for (_, question), answer, other in rows])
    return [
        JudgedAnswer(
            question=question.question,
            category=question.category,
            outcome=judgement.outcome,
            answer=answer,
            parent_answer=other,
            score=judgement.score,
            parent_score=judgement.other_score,
            origin=origin,  # type: ignore[arg-type]
            flipped=judgement.flipped,
        )
        for ((origin, question), answer, other), judgement in zip(rows, judgements, strict=True)
    ]


def _answers(
    generator: Generator,
    settings: Settings,
    texts: Sequence[str],
    contestants: Sequence[AdapterRef],
    progress: Progress,
    synthetic: bool = False,
) -> list[str]:
    """Answers in order of question, then contestant: as production would give them, both with the same seed.

    Args:
        synthetic: to be compared for training instead: drawn warmer, each with its own seed, so that they differ.
    """
    usual = settings.collection if synthetic else settings.generation
    requests = [
        GenerationRequest(
            messages=(("user", text),),
            adapter=contestant.sha,
            temperature=usual.temperature,
            top_p=usual.top_p,
            max_tokens=settings.model.max_new_tokens,
            seed=zlib.crc32(f"{(index, place) if synthetic else index}:{text}".encode()),
        )
        for index, text in enumerate(texts)
        for place, contestant in enumerate(contestants)
    ]
    answers: list[str] = []

    def finished(count: int) -> None:
        """Told while a batch is at work: of a real model one takes minutes."""
        progress(len(answers) + count, len(requests), {})

    for start in range(0, len(requests), BATCH):
        answers += [answer.text for answer in generator.generate(requests[start : start + BATCH], finished)]
        log.info("%d of %d answers", len(answers), len(requests))
    return answers


def _safety(
    generator: Generator,
    settings: Settings,
    harmful: Sequence[str],
    contestants: Sequence[AdapterRef],
    progress: Progress,
) -> list[SafetyCheck | None]:
    """The first contestant against each of the others, on every harmful request `samples` times."""
    samples, width = settings.evaluation.samples, len(contestants)
    texts = [request for request in harmful for _ in range(samples)]
    answers = _answers(generator, settings, texts, contestants, progress)

    def said(place: int) -> list[list[str]]:
        own = answers[place::width]
        return [own[begin : begin + samples] for begin in range(0, len(own), samples)]

    names = ("the parent", BASELINE)
    return [safety_check(said(0), said(place), names[place - 1]) for place in range(1, width)]


def _drift(
    generator: Generator,
    candidate: AdapterRef,
    parent: AdapterRef,
    answers: Sequence[tuple[str, str]],
    votes: Sequence[HumanVote],
) -> Drift:
    def logprobs(rows: Sequence[tuple[Any, str]], contestant: AdapterRef) -> list[list[float]]:
        return generator.logprobs([ScoredAnswer(prompt, answer, contestant.sha) for prompt, answer in rows])

    own = [((("user", text),), answer) for text, answer in answers]
    ours, theirs = logprobs(own, candidate), logprobs(own, parent)
    tokens = sum(map(len, ours))
    kl = (sum(map(sum, ours)) - sum(map(sum, theirs))) / tokens if tokens else 0.0
    chosen = [(vote.prompt, vote.chosen) for vote in votes]
    if not chosen:
        return Drift(kl)
    after, before = logprobs(chosen, candidate), logprobs(chosen, parent)
    return Drift(kl, fmean(sum(new) - sum(old) for new, old in zip(after, before, strict=True)))


def _trust(judge: Judge, votes: Sequence[HumanVote], bank: Sequence[Question]) -> JudgeAgreement:
    """The judge on pairs that people decided; what they chose stands first in every second one."""
    known = {prompt_key(question.question): question for question in bank}
    comparisons: list[Comparison] = []
    people: list[Outcome] = []
    for number, vote in enumerate(votes):
        text = vote.prompt[-1][1]
        question = known.get(prompt_key(text)) or unanswered(text, "other")
        pair = (vote.chosen, vote.rejected) if number % 2 else (vote.rejected, vote.chosen)
        comparisons.append(Comparison(question, *pair))
        people.append("win" if number % 2 else "loss")
    return trust(judge.compare(comparisons), people)


def make_synthetic_pairs(
    settings: Settings, base: BaseModel, first: AdapterRef, second: AdapterRef, progress: Progress
) -> list[Pair]:
    """Paraphrased questions that may be asked, answered by two versions, judged; the clear winners."""
    augmentation, share = settings.augmentation, settings.collection.holdout_share
    asked, held_out = split_bank(read_bank(settings.bank_dir), share)
    kept_out = [question.question for question in held_out]
    questions = drawn_questions(asked, kept_out, augmentation.questions, augmentation.seed)
    generator = Generator(base, settings.model)
    for contestant in (first, second):
        generator.load(contestant.sha, contestant.directory)
    # The two may be one version, whose answers would be equal with the same draws.
    texts = [each.question for each in questions]
    answers = _answers(generator, settings, texts, (first, second), progress, synthetic=True)
    pairs = list(zip(answers[::2], answers[1::2], strict=True))
    comparisons = [Comparison(question, *pair) for question, pair in zip(questions, pairs, strict=True)]
    judgements = make_judge(settings, generator).compare(comparisons)
    return clear_winners(questions, pairs, judgements, augmentation.margin)
