"""The summaries of curation: counts published by rename, which sensors, pages and the CLI read.

The warehouse admits one program at a time; this file is what everybody else sees of it.
"""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TypeVar

from dpo_pipeline.core.curation import CurationSummary
from dpo_pipeline.core.validated_pair import SET_ASIDE
from dpo_pipeline.errors import ArtifactCorrupt
from dpo_pipeline.stores.artifacts import write_text

Summary = TypeVar("Summary", CurationSummary, "LabelSummary")


@dataclass(frozen=True)
class LabelSummary:
    """What can be trained on of people's feedback: pairs and labelled answers, by source; the rest by reason."""

    pairs: int = 0
    labelled: int = 0
    sources: dict[str, int] = field(default_factory=dict)
    left_out: dict[str, dict[str, int]] = field(default_factory=dict)

    @property
    def set_aside(self) -> int:
        """How much a rollback put in question."""
        return sum(reasons.get(SET_ASIDE, 0) for reasons in self.left_out.values())


def read_labels(path: Path) -> LabelSummary:
    """The newest summary; all zero before the first.

    Raises:
        ArtifactCorrupt: the file is not a summary.
    """
    return _read(path, LabelSummary, "labelled_answers")


def publish_summary(path: Path, summary: CurationSummary | LabelSummary) -> None:
    write_text(path, json.dumps(asdict(summary), indent=2))


def read_summary(path: Path) -> CurationSummary:
    """The newest summary; all zero before the first curation run.

    Raises:
        ArtifactCorrupt: the file is not a summary.
    """
    return _read(path, CurationSummary, "validated_pairs")


def _read(path: Path, kind: type[Summary], asset: str) -> Summary:
    if not path.exists():
        return kind()
    try:
        return kind(**json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise ArtifactCorrupt(
            f"{path} is no summary of curation ({error}). Delete it and materialize `{asset}`."
        ) from error
