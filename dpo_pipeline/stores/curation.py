"""The curation summary: counts published by rename, which sensors, pages and the CLI read.

The warehouse admits one program at a time; this file is what everybody else sees of it.
"""

import json
from dataclasses import asdict
from pathlib import Path

from dpo_pipeline.core.curation import CurationSummary
from dpo_pipeline.errors import ArtifactCorrupt
from dpo_pipeline.stores.artifacts import write_text


def publish_summary(path: Path, summary: CurationSummary) -> None:
    write_text(path, json.dumps(asdict(summary), indent=2))


def read_summary(path: Path) -> CurationSummary:
    """The newest summary; all zero before the first curation run.

    Raises:
        ArtifactCorrupt: the file is not a summary.
    """
    if not path.exists():
        return CurationSummary()
    try:
        return CurationSummary(**json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise ArtifactCorrupt(
            f"{path} is not a curation summary ({error}). Delete it and launch the job `ingest_and_validate`."
        ) from error
