"""The question bank, categories, coverage, and what to ask next."""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import get_args

from dpo_pipeline.core.votes import prompt_key
from dpo_pipeline.errors import InvalidRecord
from dpo_pipeline.settings import Category

CATEGORIES: tuple[str, ...] = get_args(Category)


@dataclass(frozen=True)
class Question:
    """One question of the bank.

    `facts` are lists of surface forms, of which one is enough; the first list is the fact that a
    correct answer cannot lack. Only the judge and simulated people look at it.
    """

    question: str
    category: str
    terse: tuple[str, ...]
    detailed: tuple[str, ...]
    wrong: tuple[str, ...]
    reference: str
    facts: tuple[tuple[str, ...], ...]

    @cached_property
    def _patterns(self) -> tuple[re.Pattern[str], ...]:
        return tuple(
            re.compile(r"(?<!\w)(?:" + "|".join(re.escape(form) for form in forms) + r")(?!\w)", re.IGNORECASE)
            for forms in self.facts
        )

    def facts_in(self, answer: str) -> list[bool]:
        """For each fact, whether the answer holds one of its forms."""
        return [pattern.search(answer) is not None for pattern in self._patterns]


def parse_question(line: str, where: str) -> Question:
    """One line of a bank file.

    Raises:
        InvalidRecord: naming the place, what was found and what was required.
    """
    try:
        row = json.loads(line)
        question = Question(
            question=row["question"],
            category=row["category"],
            terse=tuple(row["terse"]),
            detailed=tuple(row["detailed"]),
            wrong=tuple(row["wrong"]),
            reference=row["reference"],
            facts=tuple(tuple(forms) for forms in row["facts"]),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidRecord(f"{where}: not a question ({error!r}). See data/bank/README.md for the form.") from error
    if question.category not in CATEGORIES:
        raise InvalidRecord(f"{where}: category {question.category!r}; one of {', '.join(CATEGORIES)} was required.")
    return question


def is_held_out(question: str, share: float) -> bool:
    """Whether a question is kept for evaluation. It hangs on the text alone, so it never changes sides."""
    digest = hashlib.blake2b(b"holdout:" + prompt_key(question).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") / 2**64 < share


def split_bank(bank: Iterable[Question], share: float) -> tuple[list[Question], list[Question]]:
    """(questions that may be asked, questions held out for evaluation)."""
    asked: list[Question] = []
    held_out: list[Question] = []
    for question in bank:
        (held_out if is_held_out(question.question, share) else asked).append(question)
    return asked, held_out


def spread(questions: list[Question], count: int) -> list[Question]:
    """`count` questions, taken in turn from each category so that all are covered."""
    by_category = {name: [q for q in questions if q.category == name] for name in CATEGORIES}
    turns = max((len(group) for group in by_category.values()), default=0)
    in_turn = [group[i] for i in range(turns) for group in by_category.values() if i < len(group)]
    return in_turn[:count]


def least_covered(counts: Mapping[str, int]) -> str:
    """The category to ask next: the one with the fewest preferences; the order of CATEGORIES breaks ties."""
    return min(CATEGORIES, key=lambda name: counts.get(name, 0))
