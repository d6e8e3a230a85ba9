"""Votes that nobody cast: short ones on the bank's questions, and any number of long ones in the bank's words.

Equal seeds give equal votes. Only benchmarks read them.
"""

import random
from collections.abc import Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from typing import cast

import msgspec

from dpo_pipeline.core.questions import CATEGORIES, Question
from dpo_pipeline.core.votes import Category, Preference, Vote, outcome
from dpo_pipeline.stores.bank import read_bank

SENTENCES = 20_000
VOTES: tuple[Vote, ...] = ("a", "b", "tie", "both_bad")


def vote_lines(bank_dir: Path, seed: int = 0) -> Iterator[bytes]:
    """Log lines without end, newline included; equal for equal seeds."""
    draw, encoder = random.Random(seed), msgspec.json.Encoder()
    sentences, questions = _sentences(bank_dir), [question.question for question in read_bank(bank_dir)]
    number = 0
    while True:
        a, b = (_answer(draw, sentences) for _ in range(2))
        if draw.random() < 0.08:
            b = a[: len(a) - draw.randrange(20)] + draw.choice((".", " Yes.", ""))
        vote: Vote = draw.choices(VOTES, (0.45, 0.43, 0.08, 0.04))[0]
        chosen, rejected, chosen_model, rejected_model = outcome(vote, a, b, "v1.0", "v1.1")
        line = encoder.encode(
            {
                "event_id": f"{seed}-{number:09d}", "schema": 1, "recorded_at": "2026-01-01T00:00:00Z",
                "comparison_id": f"c{seed}-{number:09d}", "session_id": f"s{number // 20}",
                "prompt": draw.choice(questions), "category": draw.choice(CATEGORIES),
                "model_a": "v1.0", "model_b": "v1.1", "response_a": a, "response_b": b, "vote": vote,
                "chosen": chosen, "rejected": rejected, "chosen_model": chosen_model,
                "rejected_model": rejected_model, "left": draw.choice("ab"),
                "annotator": f"p{min(int(draw.paretovariate(0.6)), 2000)}", "source": "simulated",
                "sampling": {"temperature": 0.9, "top_p": 0.95, "max_tokens": 256, "seed": number},
                "propensity": 0.5,
            }
        )  # fmt: skip
        yield (line if draw.random() > 0.002 else line[: len(line) // 2]) + b"\n"
        number += 1


def _sentences(bank_dir: Path) -> list[str]:
    """Sentences of 4 to 20 of the bank's words, drawn by 1 / rank (Zipf)."""
    draw = random.Random(1)
    words = sorted({word.strip(".,?!") for q in read_bank(bank_dir) for text in q.detailed for word in text.split()})
    draw.shuffle(words)
    weights = list(accumulate(1 / rank for rank in range(1, len(words) + 1)))
    made = (draw.choices(words, cum_weights=weights, k=draw.randint(4, 20)) for _ in range(SENTENCES))
    return [" ".join(chosen).capitalize() + "." for chosen in made]


def _answer(draw: random.Random, sentences: list[str]) -> str:
    count = max(1, round(draw.lognormvariate(2.0, 0.6)))
    return " ".join(draw.choices(sentences, k=count))


def bank_votes(questions: Sequence[Question], count: int) -> Iterator[Preference]:
    """Votes of 30 people who nearly always prefer the bank's detailed answer to its terse one."""
    draw = random.Random(0)
    for number in range(count):
        question = questions[number % len(questions)]
        good = question.detailed[number % len(question.detailed)]
        poor = question.terse[number % len(question.terse)]
        vote: Vote = draw.choices(VOTES[:3], (0.9, 0.02, 0.08))[0]
        chosen, rejected, chosen_model, rejected_model = outcome(vote, good, poor, "v1.0", "v1.0")
        yield Preference(
            event_id=f"event-{number:06d}",
            recorded_at="2026-01-01T00:00:00Z",
            comparison_id=f"comparison-{number:06d}",
            session_id=f"session-{number % 30}",
            prompt=question.question,
            category=cast(Category, question.category),
            model_a="v1.0",
            model_b="v1.0",
            response_a=good,
            response_b=poor,
            vote=vote,
            chosen=chosen,
            rejected=rejected,
            chosen_model=chosen_model,
            rejected_model=rejected_model,
            left="a" if number % 2 else "b",
            annotator=f"person-{number % 30}",
            source="synthetic",
        )
