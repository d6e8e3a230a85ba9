"""Words that were replaced once, because readers stumbled over them, stay replaced: in code, pages and guide."""

import re
from pathlib import Path

from dpo_pipeline.settings import PROJECT_DIR

REPLACED = {
    r"loop turns once|turns the loop once": "runs one full cycle",
    r"(holds|meets) every criterion": "passes all checks",
    r"\d votes at the least": "at least 50 votes needed",
    r"not surely behind": "tied",
    r"worth so many equal votes": "effective votes",
    r"who beats whom": "head-to-head",
    r"stands in the history of decisions": "shown in the decision history",
    r"fewer errors than would be told": "error rate below the alert threshold",
    r"what hangs on what": "dependencies",
    r"known weaknesses": "known vulnerabilities",
    r"off at first": "off by default",
    r"left_half_way": "unfinished_version",
    r"words an answer": "words per answer",
}
PLACES = ("dpo_pipeline", "dpo_pipeline_tests", "docs", "benchmarks", "deploy")


def texts() -> list[Path]:
    found = [path for place in PLACES for path in (PROJECT_DIR / place).rglob("*") if path.suffix in (".py", ".md")]
    return [path for path in (*found, *PROJECT_DIR.glob("*.md")) if path != Path(__file__)]


def test_no_text_has_a_word_that_was_replaced() -> None:
    assert len(texts()) > 400
    hits = []
    for path in texts():
        said = re.sub(r"\s+", " ", path.read_text())
        hits += [f"{path}: {old} → {new}" for old, new in REPLACED.items() if re.search(old, said, re.IGNORECASE)]
    assert hits == []
