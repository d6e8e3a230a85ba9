"""The clearest wins and losses, one answer of each question."""

from dpo_pipeline.core.judged_examples import clearest
from dpo_pipeline.core.verdict import JudgedAnswer
from dpo_pipeline.core.winrate import Outcome


def answer(question: str, outcome: Outcome | None, gain: float) -> JudgedAnswer:
    return JudgedAnswer(question, "other", outcome, f"to {question}", "before", score=gain, parent_score=0.0)


def test_the_clearest_come_first_and_each_question_once() -> None:
    answers = [
        answer("small win", "win", 0.1),
        answer("great win", "win", 2.0),
        answer("small win", "loss", -9.0),
        answer("tie", "tie", 0.0),
        answer("unreadable", None, 5.0),
        answer("small loss", "loss", -0.1),
        answer("great loss", "loss", -2.0),
    ]
    found = clearest(answers)
    assert [each.question for each in found.won] == ["great win", "small win"]
    assert [each.question for each in found.lost] == ["great loss", "small loss"]
    assert len(clearest([answer(str(n), "win", n) for n in range(30)]).won) == 10
