"""What people showed or liked, as demonstrations: corrected answers, and the answers that won their comparisons."""

import logging
from pathlib import Path
from typing import Any

import msgspec

from dpo_pipeline.core.conversation import as_rows
from dpo_pipeline.core.serving_records import FeedbackRecord
from dpo_pipeline.core.usable_feedback import Said, usable
from dpo_pipeline.core.votes import Message, prompt_messages
from dpo_pipeline.settings import Settings
from dpo_pipeline.stores.bank import held_out_prompts
from dpo_pipeline.stores.reviews import ReviewLog, criteria_of
from dpo_pipeline.stores.serving_log import all_feedback

log = logging.getLogger(__name__)


def said_in(record: FeedbackRecord) -> Said:
    """A line of the serving log as what a person said."""
    prompt = record.prompt if isinstance(record.prompt, str) else msgspec.convert(record.prompt, list[Message])
    return Said(
        event_id=record.event_id,
        person=record.user,
        request_id=record.request_id,
        signal=record.signal,
        value=record.value,
        prompt=prompt,
        answer=record.answer,
        anonymous=record.identity == "anonymous",
    )


def corrections(serving_log_dir: Path) -> list[FeedbackRecord]:
    """Every correction, oldest first."""
    return [record for record in all_feedback(serving_log_dir) if record.signal == "correction"]


def usable_corrections(settings: Settings) -> tuple[Said, ...]:
    """Those that may be trained on; what is left out is counted in the program's log."""
    if not settings.collection.feedback_shares.get("correction"):
        return ()  # switched off
    given = [said_in(record) for record in corrections(settings.serving_log_dir)]
    found = usable(
        given,
        lambda each: str(each.value),
        held_out_prompts(settings),
        settings.quality,
        taken_out=criteria_of(ReviewLog(settings.reviews_log).taken_out()),
    )
    if found.left_out:
        log.info("%d corrections are used; left out are %s", len(found.said), found.left_out)
    return found.said


def demonstration_rows(settings: Settings, dataset_dir: Path) -> list[dict[str, Any]]:
    """Rows for SFT in TRL's form: people's corrections, and of each prompt of the dataset the answer chosen last.

    No row asks a question that versions are judged on.
    """
    import pyarrow.parquet as pq

    rows = [
        {
            "prompt": prompt_messages(each.prompt),
            "completion": as_rows([("assistant", str(each.value))]),
        }
        for each in usable_corrections(settings)
    ]
    liked = {str(row["prompt"]): row for row in pq.read_table(dataset_dir / "train.parquet").to_pylist()}
    return rows + [{"prompt": row["prompt"], "completion": row["chosen"]} for row in liked.values()]
