"""Parent and candidate answer held-out questions in mixed batches; a judge compares; the verdict is `core`'s."""

import logging
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from dpo_pipeline.core.augmentation import clear_winners, drawn_questions
from dpo_pipeline.core.dataset import Pair
from dpo_pipeline.core.judging import Comparison, Judge, JudgeAgreement, trust
from dpo_pipeline.core.questions import Question, is_held_out, split_bank, spread
from dpo_pipeline.core.safety import SafetyCheck, safety_check
from dpo_pipeline.core.verdict import Drift, JudgedAnswer, Measured
from dpo_pipeline.core.versions import BASELINE
from dpo_pipeline.core.votes import Message, prompt_key
from dpo_pipeline.core.winrate import Outcome
from dpo_pipeline.errors import EvaluationLeaked, InvalidRequest
from dpo_pipeline.ml.base_model import BaseModel
from dpo_pipeline.ml.dpo import LABELLED
from dpo_pipeline.ml.embedded import Progress
from dpo_pipeline.ml.generation import GenerationRequest, Generator, ScoredAnswer
from dpo_pipeline.settings import Settings
from dpo_pipeline.stores.bank import gating_questions, read_bank, read_edge_cases, read_harmful
from dpo_pipeline.stores.serving_state import newest_prompts, place_of

BATCH = 128
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class AdapterRef:
    """An adapter by its hash and folder."""

    sha: str
    directory: Path


@dataclass(frozen=True)
class HumanVote:
    """A pair of the dataset's held-out split: what a person preferred to what."""

    prompt: tuple[tuple[str, str], ...]
    chosen: str
    rejected: str


@dataclass(frozen=True)
class EvalSet:
    """What both meet: questions that gate, of the bank or of files; others that inform; harmful requests; votes."""

    bank: tuple[Question, ...]
    others: tuple[tuple[str, Question], ...] = ()
    harmful: tuple[str, ...] = ()
    votes: tuple[HumanVote, ...] = field(default=())


def build_eval_set(settings: Settings, dataset_dir: Path | None = None) -> EvalSet:
    """Held-out questions only, none of which was trained on.

    Args:
        dataset_dir: what the candidate was trained on; its held-out votes are part of the set.

    Raises:
        EvaluationLeaked: the candidate was trained on a question that gates.
    """
    evaluation, share = settings.evaluation, settings.collection.holdout_share
    bank = read_bank(settings.bank_dir)
    gating = gating_questions(settings)
    known = {prompt_key(question.question) for question in (*bank, *gating)}
    asked = [each for each in newest_prompts(place_of(settings)) if is_held_out(each, share)]
    production = [_unanswered(text, "other") for text in asked if prompt_key(text) not in known]
    edge_cases = [
        _unanswered(case.question, case.category)
        for case in read_edge_cases(settings.bank_dir)
        if is_held_out(case.question, share)
    ]
    made = EvalSet(
        bank=tuple(spread(gating, evaluation.questions)),
        others=(
            *(("production", question) for question in production[: evaluation.production_questions]),
            *(("edge_case", question) for question in edge_cases[: evaluation.edge_cases]),
        ),
        harmful=read_harmful(settings.bank_dir),
        votes=_held_out_votes(dataset_dir, evaluation.human_votes) if dataset_dir else (),
    )
    if dataset_dir is None:
        return made
    trained = _trained_prompts(dataset_dir)
    if leaked := [each.question for each in made.bank if prompt_key(each.question) in trained]:
        raise EvaluationLeaked(
            f"{len(leaked)} questions of the evaluation were trained on, such as {leaked[0]!r}; none may be. "
            "Materialize `dpo_dataset` for this version again: it leaves held-out questions out."
        )
    # What people ask may have been voted on too; such a question only informs, so it is left out.
    return replace(made, others=tuple(each for each in made.others if prompt_key(each[1].question) not in trained))


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
        question = known.get(prompt_key(text)) or _unanswered(text, "other")
        pair = (vote.chosen, vote.rejected) if number % 2 else (vote.rejected, vote.chosen)
        comparisons.append(Comparison(question, *pair))
        people.append("win" if number % 2 else "loss")
    return trust(judge.compare(comparisons), people)


def _held_out_votes(dataset_dir: Path, count: int) -> tuple[HumanVote, ...]:
    import pyarrow.parquet as pq

    rows = pq.read_table(dataset_dir / "eval.parquet").to_pylist()[:count]
    return tuple(
        HumanVote(
            tuple((message["role"], message["content"]) for message in row["prompt"]),
            row["chosen"][-1]["content"],
            row["rejected"][-1]["content"],
        )
        for row in rows
    )


def _trained_prompts(dataset_dir: Path) -> set[str]:
    import pyarrow.parquet as pq

    files = [file for file in (dataset_dir / "train.parquet", dataset_dir / LABELLED) if file.exists()]
    prompts = [row["prompt"] for file in files for row in pq.read_table(file, columns=["prompt"]).to_pylist()]
    return {prompt_key([Message(**message) for message in prompt]) for prompt in prompts}


def _unanswered(text: str, category: str) -> Question:
    """A question to which nobody has written an answer."""
    return Question(text, category, (), (), (), "", ())


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
