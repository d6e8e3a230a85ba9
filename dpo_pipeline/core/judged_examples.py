"""The answers that show best what a version gained, and what it lost, against its parent."""

from collections.abc import Sequence
from dataclasses import dataclass

from dpo_pipeline.core.verdict import JudgedAnswer

SHOWN = 10


@dataclass(frozen=True)
class JudgedExamples:
    """The clearest first; of each question one answer."""

    won: tuple[JudgedAnswer, ...] = ()
    lost: tuple[JudgedAnswer, ...] = ()


def clearest(answers: Sequence[JudgedAnswer], most: int = SHOWN) -> JudgedExamples:
    """By how far the judge's scores of the two answers lie apart; a judge without scores leaves them as they came."""
    first: dict[str, JudgedAnswer] = {}
    for answer in answers:
        first.setdefault(answer.question, answer)
    won = sorted((each for each in first.values() if each.outcome == "win"), key=_gain, reverse=True)
    lost = sorted((each for each in first.values() if each.outcome == "loss"), key=_gain)
    return JudgedExamples(tuple(won[:most]), tuple(lost[:most]))


def _gain(answer: JudgedAnswer) -> float:
    return (answer.score or 0.0) - (answer.parent_score or 0.0)
