"""What both versions meet in an evaluation: held-out questions, and pairs that people decided."""

from dataclasses import dataclass, field, replace
from pathlib import Path

from dpo_pipeline.core.questions import Question, is_held_out, spread
from dpo_pipeline.core.votes import Message, prompt_key
from dpo_pipeline.errors import EvaluationLeaked
from dpo_pipeline.ml.training_job import LABELLED
from dpo_pipeline.settings import Settings
from dpo_pipeline.stores.bank import gating_questions, read_bank, read_edge_cases, read_harmful
from dpo_pipeline.stores.serving_state import newest_prompts, place_of


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
    production = [unanswered(text, "other") for text in asked if prompt_key(text) not in known]
    edge_cases = [
        unanswered(case.question, case.category)
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


def unanswered(text: str, category: str) -> Question:
    """A question to which nobody has written an answer."""
    return Question(text, category, (), (), (), "", ())
