"""Reading the question bank from its files."""

from functools import lru_cache
from pathlib import Path

from dpo_pipeline.core.questions import Question, parse_question
from dpo_pipeline.errors import ArtifactMissing


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
