"""What people showed or liked, as demonstrations: corrected answers, and the answers that won their comparisons."""

from pathlib import Path
from typing import Any

import msgspec

from dpo_pipeline.core.votes import Message, prompt_key
from dpo_pipeline.stores.serving_log import CorrectionRecord, read_records


def corrections(serving_log_dir: Path) -> list[CorrectionRecord]:
    """Every correction, oldest first."""
    if not serving_log_dir.exists():
        return []
    days = sorted(path.stem for path in serving_log_dir.glob("????-??-??.jsonl"))
    if not days:
        return []
    records = read_records(serving_log_dir, f"{days[0]}T00:00:00Z")
    return [record for record in records if isinstance(record, CorrectionRecord)]


def usable_corrections(serving_log_dir: Path, held_out_prompts: frozenset[str]) -> list[CorrectionRecord]:
    """Those that may be trained on: of no question that versions are judged on."""
    return [each for each in corrections(serving_log_dir) if prompt_key(_asked(each)) not in held_out_prompts]


def _asked(record: CorrectionRecord) -> str | list[Message]:
    return record.prompt if isinstance(record.prompt, str) else msgspec.convert(record.prompt, list[Message])


def demonstration_rows(
    serving_log_dir: Path, dataset_dir: Path, held_out_prompts: frozenset[str]
) -> list[dict[str, Any]]:
    """Rows for SFT in TRL's form: people's corrections, and of each prompt of the dataset the answer chosen last.

    Args:
        held_out_prompts: `prompt_key`s of the questions that versions are judged on; no row asks one of them.
    """
    import pyarrow.parquet as pq

    rows = [
        {
            "prompt": [{"role": "user", "content": record.prompt}] if isinstance(record.prompt, str) else record.prompt,
            "completion": [{"role": "assistant", "content": record.correction}],
        }
        for record in usable_corrections(serving_log_dir, held_out_prompts)
    ]
    liked = {str(row["prompt"]): row for row in pq.read_table(dataset_dir / "train.parquet").to_pylist()}
    return rows + [{"prompt": row["prompt"], "completion": row["chosen"]} for row in liked.values()]
