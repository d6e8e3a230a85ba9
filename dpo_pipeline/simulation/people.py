"""A simulated person: a hidden taste, noise, a position bias; some are careless.

The taste is for answers that are correct, complete up to a point, and not padded. Trainer and judge
never see it.
"""

import random
from collections import Counter
from dataclasses import dataclass

from dpo_pipeline.core.questions import Question
from dpo_pipeline.core.votes import Choice


@dataclass(frozen=True)
class Person:
    """`comfort` is the number of words beyond which more is padding; `bias` is added to the left side."""

    name: str
    noise: float
    bias: float
    careless: float
    comfort: int
    tie_band: float


def make_person(name: str, seed: int) -> Person:
    """A person drawn from the crowd; the same name and seed give the same person."""
    draw = random.Random(f"{seed}:{name}")
    return Person(
        name=name,
        noise=draw.uniform(0.1, 0.35),
        bias=draw.gauss(0.0, 0.06),
        careless=0.35 if draw.random() < 0.08 else 0.02,
        comfort=draw.randint(26, 44),
        tie_band=draw.uniform(0.03, 0.12),
    )


def satisfaction(person: Person, question: Question, answer: str) -> float:
    """How much this person likes the answer, without noise: about −0.5 to 2."""
    words = answer.split()
    if not words:
        return -0.5
    essential, *others = question.facts_in(answer)
    complete = sum(others) / len(others) if others else 0.0
    padding = max(len(words) - person.comfort, 0) * 0.03
    repeated = 1 - len(Counter(word.lower() for word in words)) / len(words)
    return (1.0 if essential else 0.0) + (0.8 * complete if essential else 0.2 * complete) - padding - 0.4 * repeated


def choose(person: Person, question: Question, left: str, right: str, draw: random.Random) -> Choice:
    """The vote on two answers."""
    if draw.random() < person.careless:
        return draw.choice(["left", "right"])
    likes = satisfaction(person, question, left), satisfaction(person, question, right)
    if max(likes) < 0.15 and draw.random() < 0.5:
        return "both_bad"
    difference = likes[0] - likes[1] + person.bias + draw.gauss(0.0, person.noise)
    if abs(difference) < person.tie_band:
        return "tie"
    return "left" if difference > 0 else "right"


def rate(person: Person, question: Question, answer: str, draw: random.Random) -> int:
    """A rating from 1 to 5."""
    liked = satisfaction(person, question, answer) + draw.gauss(0.0, person.noise)
    return min(max(round(1 + 4 * liked / 1.7), 1), 5)
