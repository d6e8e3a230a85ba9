"""Parent and candidate answer held-out questions in mixed batches; a judge compares; the verdict is `core`'s."""

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from dpo_pipeline.core.questions import Question, split_bank, spread
from dpo_pipeline.core.verdict import JudgedAnswer
from dpo_pipeline.ml.base_model import BaseModel
from dpo_pipeline.ml.generation import GenerationRequest, Generator
from dpo_pipeline.ml.scoring import AutomaticJudge, Comparison, Judge
from dpo_pipeline.settings import Settings
from dpo_pipeline.stores.bank import read_bank

BATCH = 128


@dataclass(frozen=True)
class Contestant:
    """An adapter by its hash and folder."""

    sha: str
    directory: Path


def load_libraries() -> None:
    """Import what `judge_versions` needs: seconds that a process can spend while it waits for something else."""
    import peft  # noqa: F401
    import transformers  # noqa: F401
    from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: F401
    from vaderSentiment import vaderSentiment  # noqa: F401


def held_out_questions(settings: Settings) -> list[Question]:
    """The questions of an evaluation: held out of collection and training, spread over the categories."""
    _, held_out = split_bank(read_bank(settings.bank_dir), settings.collection.holdout_share)
    return spread(held_out, settings.evaluation.questions)


def judge_versions(
    settings: Settings,
    base: BaseModel,
    candidate: Contestant,
    parent: Contestant,
    progress: Callable[[int, int, dict[str, float]], None],
    judge: Judge | None = None,
) -> list[JudgedAnswer]:
    """Each question answered `samples` times by both, judged in pairs."""
    questions = [q for q in held_out_questions(settings) for _ in range(settings.evaluation.samples)]
    generator = Generator(base, settings.model)
    for contestant in (candidate, parent):
        generator.load(contestant.sha, contestant.directory)
    answers = _answers(generator, settings, questions, (candidate, parent), progress)
    chosen = judge or AutomaticJudge(base, settings.model, settings.evaluation)
    comparisons = [Comparison(question, answers[2 * i], answers[2 * i + 1]) for i, question in enumerate(questions)]
    return [
        JudgedAnswer(
            question=comparison.question.question,
            category=comparison.question.category,
            outcome=outcome,
            words=len(comparison.answer.split()),
            parent_words=len(comparison.other.split()),
            score=score.total,
            parent_score=other.total,
        )
        for comparison, (outcome, score, other) in zip(comparisons, chosen.compare(comparisons), strict=True)
    ]


def _answers(
    generator: Generator,
    settings: Settings,
    questions: Sequence[Question],
    contestants: Sequence[Contestant],
    progress: Callable[[int, int, dict[str, float]], None],
) -> list[str]:
    """Answers in order of question, then contestant. Both draw with the same seed, so chance is shared."""
    requests = [
        GenerationRequest(
            messages=(("user", question.question),),
            adapter=contestant.sha,
            temperature=settings.collection.temperature,
            top_p=settings.collection.top_p,
            max_tokens=settings.model.max_new_tokens,
            seed=zlib.crc32(f"{index}:{question.question}".encode()),
        )
        for index, question in enumerate(questions)
        for contestant in contestants
    ]
    texts: list[str] = []
    for start in range(0, len(requests), BATCH):
        texts += [answer.text for answer in generator.generate(requests[start : start + BATCH])]
        progress(min(start + BATCH, len(requests)), len(requests), {})
    return texts
