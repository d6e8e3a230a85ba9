"""Reading the question bank, and the edge cases and harmful requests beside it, from their files."""

import json
import logging
from collections import Counter
from functools import lru_cache
from pathlib import Path

from dpo_pipeline.core.demonstration_formats import read_question
from dpo_pipeline.core.questions import EdgeCase, Question, parse_edge_case, parse_question, split_bank
from dpo_pipeline.core.votes import prompt_key
from dpo_pipeline.errors import ArtifactMissing, InvalidRecord, UnreadableImport
from dpo_pipeline.in_words import fault
from dpo_pipeline.settings import Settings
from dpo_pipeline.stores.import_files import read_rows

EDGE_CASES, SAFETY = "edge_cases", "safety"
LEAST_QUESTIONS = 4
log = logging.getLogger(__name__)


@lru_cache(maxsize=4)
def read_bank(directory: Path) -> tuple[Question, ...]:
    """All questions, in order of file name and line.

    Raises:
        ArtifactMissing: the folder holds no bank.
        InvalidRecord: a line is not a question.
    """
    files = sorted(directory.glob("*.jsonl"))
    if not files:
        raise ArtifactMissing(
            f"{directory} holds no question bank (*.jsonl). Set DPO_BANK_DIR to the folder that does."
        )
    return tuple(
        parse_question(line, f"{path.name}:{number}")
        for path in files
        for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), start=1)
        if line.strip()
    )


def held_out_prompts(settings: Settings) -> frozenset[str]:
    """Keys of the questions that versions are judged on, and that therefore no version trains on."""
    return frozenset(map(prompt_key, held_out_texts(settings)))


def held_out_texts(settings: Settings) -> list[str]:
    """Those questions: what the bank keeps back, and what the files of the settings hold."""
    _, held_out = split_bank(read_bank(settings.bank_dir), settings.collection.holdout_share)
    return [question.question for question in (*held_out, *read_question_files(settings.evaluation.question_files))]


def gating_questions(settings: Settings) -> list[Question]:
    """Those that decide whether a version is better: of the files of the settings, else what the bank keeps back."""
    if settings.evaluation.question_files:
        return list(read_question_files(settings.evaluation.question_files))
    _, held_out = split_bank(read_bank(settings.bank_dir), settings.collection.holdout_share)
    return held_out


@lru_cache(maxsize=4)
def read_question_files(files: tuple[Path, ...]) -> tuple[Question, ...]:
    """Questions to judge versions on, each once, in order of the files; rows that are none are left out and told.

    Raises:
        UnreadableImport: a file cannot be read, or fewer than `LEAST_QUESTIONS` are left.
    """
    found: dict[str, Question] = {}
    refused = Counter[str]()
    for file in files:
        for _, row in read_rows(file.expanduser()):
            try:
                if isinstance(row, InvalidRecord):
                    raise row
                question = read_question(row)
            except InvalidRecord as error:
                refused[str(error)] += 1
                continue
            found.setdefault(prompt_key(question.question), question)
    if refused:
        log.warning("%d rows of the evaluation's questions were left out: %s", refused.total(), dict(refused))
    if files and len(found) < LEAST_QUESTIONS:
        raise UnreadableImport(
            f"{', '.join(map(str, files))}: {len(found)} questions can be asked ({dict(refused)} left out); "
            f"{LEAST_QUESTIONS} are required at least. Name other files in DPO_EVALUATION__QUESTION_FILES, or none for "
            "the bank's."
        )
    return tuple(found.values())


@lru_cache(maxsize=4)
def read_edge_cases(directory: Path) -> tuple[EdgeCase, ...]:
    """The edge cases of a bank, in order of file name and line; none where its folder has no `edge_cases`.

    Raises:
        InvalidRecord: a line is not an edge case, or its question stands in an earlier line.
    """
    found: list[EdgeCase] = []
    places: dict[str, str] = {}
    for path in sorted((directory / EDGE_CASES).glob("*.jsonl")):
        for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), start=1):
            if not line.strip():
                continue
            where = f"{path.name}:{number}"
            case = parse_edge_case(line, where)
            first = places.setdefault(prompt_key(case.question), where)
            if first != where:
                raise InvalidRecord(f"{where}: the question stands in {first} already. Remove one of the two.")
            found.append(case)
    return tuple(found)


@lru_cache(maxsize=4)
def read_harmful(directory: Path) -> tuple[str, ...]:
    """Requests that a version ought to decline; none where the bank's folder has no `safety`.

    Raises:
        InvalidRecord: a line is no such request.
    """
    found: list[str] = []
    for path in sorted((directory / SAFETY).glob("*.jsonl")):
        for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), start=1):
            if line.strip():
                found.append(_request(line, f"{path.name}:{number}"))
    return tuple(found)


def _request(line: str, where: str) -> str:
    try:
        request = json.loads(line)["request"]
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidRecord(
            f"{where}: not a request ({fault(error)}). See data/bank/README.md for the form."
        ) from error
    if not isinstance(request, str) or not request.strip():
        raise InvalidRecord(f"{where}: request is {request!r}; a text that is not empty was required.")
    return request
