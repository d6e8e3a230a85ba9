"""What people showed or liked, as demonstrations: corrected answers, and the answers that won their comparisons."""

import logging
from pathlib import Path
from typing import Any

import msgspec

from dpo_pipeline.core.corrections import Correction, usable_corrections
from dpo_pipeline.core.votes import Message, prompt_key
from dpo_pipeline.settings import Settings
from dpo_pipeline.stores.bank import held_out_prompts
from dpo_pipeline.stores.serving_log import CorrectionRecord, read_records

log = logging.getLogger(__name__)


def corrections(serving_log_dir: Path) -> list[CorrectionRecord]:
    """Every correction, oldest first."""
    if not serving_log_dir.exists():
        return []
    days = sorted(path.stem for path in serving_log_dir.glob("????-??-??.jsonl"))
    if not days:
        return []
    records = read_records(serving_log_dir, f"{days[0]}T00:00:00Z")
    return [record for record in records if isinstance(record, CorrectionRecord)]


def usable(settings: Settings) -> list[CorrectionRecord]:
    """Those that may be trained on; what is left out is counted in the program's log."""
    by_id = {each.event_id: each for each in corrections(settings.serving_log_dir)}
    given = [
        Correction(
            event_id=each.event_id,
            person=each.user,
            request_id=each.request_id,
            question=prompt_key(_asked(each)),
            text=each.correction,
            anonymous=each.identity == "anonymous",
        )
        for each in by_id.values()
    ]
    found = usable_corrections(given, held_out_prompts(settings), settings.quality)
    if found.left_out:
        log.info("%d corrections are used; left out are %s", len(found.event_ids), found.left_out)
    return [by_id[event_id] for event_id in found.event_ids]


def _asked(record: CorrectionRecord) -> str | list[Message]:
    return record.prompt if isinstance(record.prompt, str) else msgspec.convert(record.prompt, list[Message])


def demonstration_rows(settings: Settings, dataset_dir: Path) -> list[dict[str, Any]]:
    """Rows for SFT in TRL's form: people's corrections, and of each prompt of the dataset the answer chosen last.

    No row asks a question that versions are judged on.
    """
    import pyarrow.parquet as pq

    rows = [
        {
            "prompt": [{"role": "user", "content": record.prompt}] if isinstance(record.prompt, str) else record.prompt,
            "completion": [{"role": "assistant", "content": record.correction}],
        }
        for record in usable(settings)
    ]
    liked = {str(row["prompt"]): row for row in pq.read_table(dataset_dir / "train.parquet").to_pylist()}
    return rows + [{"prompt": row["prompt"], "completion": row["chosen"]} for row in liked.values()]
