"""The question bank, edge cases, questions from production, coverage, and what to ask next.

Pure: files are read by `stores.bank`, dice are thrown by `serving.services.questions`.
"""

import hashlib
import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, get_args

from dpo_pipeline.core.votes import prompt_key
from dpo_pipeline.errors import InvalidRecord
from dpo_pipeline.in_words import fault, kind_of, spoken

BankCategory = Literal["factual_qa", "comparison", "creative", "problem_solving", "explanation"]
"""What a question of the bank asks for; a vote may also be on a question of any other kind."""
CATEGORIES: tuple[str, ...] = get_args(BankCategory)
CATEGORY_LABELS = {"factual_qa": "Factual"}
"""Where the name itself does not read well."""
Origin = Literal["bank", "production", "edge_case"]
OriginFilter = Literal["mix", "bank", "production", "edge_case"]
SHORTEST_ASKED, LONGEST_ASKED = 3, 500
"""Characters of a question that is neither a slip of the keyboard nor an essay."""


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


@dataclass(frozen=True)
class EdgeCase:
    """A question that is hard to answer well for the reason in `why`; nobody has written an answer to it."""

    question: str
    category: str
    why: str


@dataclass(frozen=True)
class AskedQuestion:
    """A question that may be drawn for a comparison, where it comes from, and which person asked it in production.

    `ratio`: how many times as likely as by an even draw it was to be drawn.
    """

    question: str
    category: str
    origin: Origin
    asked_by: str = ""
    ratio: float = 1.0


@dataclass(frozen=True)
class QuestionFilter:
    """What shall be drawn. `seen` are texts that were asked lately and wait for their turn."""

    origin: OriginFilter = "mix"
    category: str | None = None
    seen: Collection[str] = ()


def category_label(category: str) -> str:
    """As people read it: "Problem solving"."""
    return CATEGORY_LABELS.get(category, spoken(category).capitalize())


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
        raise InvalidRecord(
            f"{where}: not a question ({fault(error)}). See data/bank/README.md for the form."
        ) from error
    _check_category(question.category, where)
    return question


def parse_edge_case(line: str, where: str) -> EdgeCase:
    """One line of the edge cases: `question`, `category` and `why`, and nothing else.

    Raises:
        InvalidRecord: naming the place, what was found and what was required.
    """
    try:
        row = json.loads(line)
    except ValueError as error:
        raise InvalidRecord(f"{where}: not JSON ({error}). See data/bank/README.md for the form.") from error
    names = ("question", "category", "why")
    if not isinstance(row, dict) or set(row) != set(names):
        found = ", ".join(sorted(row)) if isinstance(row, dict) else kind_of(row)
        raise InvalidRecord(f"{where}: found {found or 'nothing'}; exactly {', '.join(names)} were required.")
    for name in names:
        if not isinstance(row[name], str) or not row[name].strip():
            raise InvalidRecord(f"{where}: {name} is {row[name]!r}; a text that is not empty was required.")
    _check_category(row["category"], where)
    return EdgeCase(row["question"], row["category"], row["why"])


def _check_category(category: str, where: str) -> None:
    if category not in CATEGORIES:
        raise InvalidRecord(f"{where}: category {category!r}; one of {', '.join(CATEGORIES)} was required.")


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
    known = dict.fromkeys((*CATEGORIES, *(question.category for question in questions)))
    by_category = {name: [q for q in questions if q.category == name] for name in known}
    turns = max((len(group) for group in by_category.values()), default=0)
    in_turn = [group[i] for i in range(turns) for group in by_category.values() if i < len(group)]
    return in_turn[:count]


def least_covered(counts: Mapping[str, int]) -> str:
    """The category to ask next: the one with the fewest preferences; the order of CATEGORIES breaks ties."""
    return min(CATEGORIES, key=lambda name: counts.get(name, 0))


def askable(
    questions: Iterable[Question | EdgeCase], origin: Origin, holdout_share: float
) -> tuple[AskedQuestion, ...]:
    """Those that are not held out for evaluation."""
    return tuple(
        AskedQuestion(each.question, each.category, origin)
        for each in questions
        if not is_held_out(each.question, holdout_share)
    )


def production_questions(
    prompts: Mapping[str, str], bank: Iterable[Question], holdout_share: float
) -> tuple[AskedQuestion, ...]:
    """Prompts of chat requests as questions: of the bank's category where it has the text, else `other`.

    Args:
        prompts: and who asked each; a question of the bank is nobody's.
    """
    categories = {prompt_key(question.question): question.category for question in bank}
    return tuple(
        AskedQuestion(
            prompt,
            categories.get(prompt_key(prompt), "other"),
            "production",
            "" if prompt_key(prompt) in categories else person,
        )
        for prompt, person in prompts.items()
        if not is_held_out(prompt, holdout_share)
    )


def origin_by_shares(draw: float, production_share: float, edge_case_share: float) -> Origin:
    """Where the next question of the mix comes from, by a number drawn evenly from [0, 1)."""
    if draw < production_share:
        return "production"
    return "edge_case" if draw < production_share + edge_case_share else "bank"


def candidates(
    pools: Mapping[Origin, Sequence[AskedQuestion]], origin: Origin, wish: QuestionFilter, least: str
) -> list[AskedQuestion]:
    """The questions to draw one of, at even odds.

    The bank stands in where the origin has none of the category wished for. Seen ones come again only
    when there are no others; in the mix the bank stands in for them.

    Args:
        origin: where to look first; in the mix, what the shares say.
        least: the category that is covered least; the bank's questions are of it unless another was wished for.
    """
    if origin != "bank":
        fitting = [each for each in pools[origin] if wish.category in (None, each.category)]
        fresh = [each for each in fitting if each.question not in wish.seen]
        if found := fresh if wish.origin == "mix" else fresh or fitting:
            return found
    fitting = [each for each in pools["bank"] if each.category == (wish.category or least)]
    return [each for each in fitting if each.question not in wish.seen] or fitting


def may_be_asked_again(prompt: str | list[dict[str, str]], source: str) -> bool:
    """Whether others may be asked what somebody asked: a single question of a person, and no conversation."""
    is_one = isinstance(prompt, str) and SHORTEST_ASKED <= len(prompt.strip()) <= LONGEST_ASKED
    return is_one and source != "simulated"
