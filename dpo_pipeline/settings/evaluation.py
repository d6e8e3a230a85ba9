"""How a version is judged against its parent, and what synthetic pairs are made with the judge."""

from typing import Literal

from pydantic import Field

from dpo_pipeline.settings.section import HomePath, HomeText, Section


class JudgeWeights(Section):
    """Weights of the automatic evaluation; they are divided by their sum."""

    length: float = Field(0.2, ge=0)
    coherence: float = Field(0.2, ge=0)
    factuality: float = Field(0.5, ge=0)
    sentiment: float = Field(0.1, ge=0)


class Evaluation(Section):
    eval_share: float = Field(0.1, gt=0, lt=1, description="share of the pairs' prompts held out of training")
    questions: int = Field(100, ge=4, description="held-out questions that both models answer, at most")
    question_files: tuple[HomePath, ...] = Field(
        (),
        description="files of questions to judge versions on, in the forms of sft.demonstrations or prompts alone, for "
        "a base that never saw the bank; none: the bank's. No vote on them is trained on",
    )
    samples: int = Field(2, ge=1, description="answers per question and model; a question counts once")
    judge: Literal["automatic", "reward_model", "llm"] = Field("automatic", description="who compares the answers")
    reward_model: HomeText = Field("", description="judge reward_model: folder of a classifier with one output")
    judge_url: str = Field("", description="judge llm: base address of an OpenAI-compatible server, ending in /v1")
    judge_model: str = Field("", description="judge llm: the model's name there")
    judge_timeout_s: float = Field(120, gt=0, description="judge llm: how long one verdict may take")
    production_questions: int = Field(
        16, ge=0, description="held-out questions of people that are answered too; they inform and do not gate"
    )
    edge_cases: int = Field(16, ge=0, description="held-out edge cases that are answered too; they do not gate either")
    human_votes: int = Field(64, ge=0, description="held-out votes of people on which the judge is compared with them")
    weights: JudgeWeights = JudgeWeights()
    tie_margin: float = Field(0.02, ge=0, description="score difference below which two answers tie")
    min_win_rate: float = Field(0.55, gt=0.5, lt=1, description="win rate over the parent that counts as improved")
    alpha: float = Field(0.05, gt=0, lt=0.5, description="error rate of the intervals")


class Augmentation(Section):
    """Synthetic pairs: paraphrased questions, answered by two versions, kept where one answer is clearly better."""

    enabled: bool = Field(False, description="make synthetic pairs and add them to what is trained on")
    questions: int = Field(60, ge=1, description="questions that are paraphrased in a run")
    margin: float = Field(0.2, gt=0, description="difference of the judge's scores that makes a winner clear")
    max_share: float = Field(0.2, gt=0, lt=1, description="largest share of a dataset's training pairs")
    seed: int = 0
