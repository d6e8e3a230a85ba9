"""A training of preferences: all that goes into it, and the pairs of its dataset as they are trained on."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dpo_pipeline.core.conversation import as_rows
from dpo_pipeline.errors import DatasetTooSmall
from dpo_pipeline.ml.adapters import check_adapter
from dpo_pipeline.ml.base_model import BaseModel, load_tokenizer
from dpo_pipeline.ml.chat_template import ChatTemplate, as_messages
from dpo_pipeline.request_errors import InvalidRequest
from dpo_pipeline.settings import DpoRecipe, ModelSettings
from dpo_pipeline.stores import artifacts

LABELLED = "labelled.parquet"
"""Of a dataset, where it has labelled answers."""


@dataclass(frozen=True)
class DpoJob:
    """All that goes into a training. `start_dir` is the adapter to start from, and the reference."""

    base: BaseModel
    start_dir: Path
    dataset_dir: Path
    recipe: DpoRecipe
    model: ModelSettings
    work_dir: Path
    reference_cache: Path


@dataclass(frozen=True)
class UsablePairs:
    """The pairs of a dataset as they are trained on, and how many were left out, by reason.

    `tokenizer` is the one that read them, padding on the right; a large one takes seconds to load.
    """

    tokenizer: Any
    train: Any
    held: Any
    left_out: Counter[str]
    dataset_hash: str
    reference_sha: str


def usable_pairs(job: DpoJob) -> UsablePairs:
    """
    Raises:
        DatasetTooSmall: fewer usable pairs than one batch, where pairs alone are trained on.
        AdapterRefused: the start is on another base.
    """
    start = check_adapter(job.start_dir, job.base.sha, job.model)
    tokenizer = load_tokenizer(job.base.directory)
    tokenizer.padding_side = "right"
    template = ChatTemplate(tokenizer)
    train, left_out = _usable(read_rows(job.dataset_dir / "train.parquet"), template, tokenizer, job.model.max_length)
    held, _ = _usable(read_rows(job.dataset_dir / "eval.parquet"), template, tokenizer, job.model.max_length)
    if job.recipe.objective == "dpo" and (len(train) < job.recipe.batch_size or not len(held)):
        raise DatasetTooSmall(
            f"{len(train)} training and {len(held)} evaluation pairs are usable within {job.model.max_length} tokens "
            f"({dict(left_out)} left out); one batch of {job.recipe.batch_size} and one were required. "
            "Collect more pairs, raise model.max_length, or lower recipe.batch_size."
        )
    content_hash = artifacts.read_manifest(job.dataset_dir)["content_hash"]
    return UsablePairs(tokenizer, train, held, left_out, content_hash, start["sha256"])


def read_rows(path: Path) -> Any:
    import pyarrow.parquet as pq
    from datasets import Dataset

    return Dataset.from_list(pq.read_table(path).to_pylist())


def _usable(dataset: Any, template: ChatTemplate, tokenizer: Any, max_length: int) -> tuple[Any, Counter[str]]:
    """Rows as the template takes them, that fit and still differ once cut to `max_length` tokens; why others do not.

    TRL would drop or keep them in silence, or stop at the first that cannot be rendered.
    """
    from datasets import Dataset

    reasons: Counter[str] = Counter()

    def usable(row: Mapping[str, Any]) -> dict[str, Any] | None:
        asked = as_messages(row["prompt"])
        chosen, rejected = (row[side][0]["content"] for side in ("chosen", "rejected"))
        try:
            texts = [template.trained(asked, answer) for answer in (chosen, rejected)]
        except InvalidRequest:
            reasons["cannot_be_told"] += 1
            return None
        read = tokenizer([texts[0][0], texts[0][1], texts[1][1]], add_special_tokens=False)["input_ids"]
        if len(read[0]) >= max_length:
            reasons["prompt_too_long"] += 1
            return None
        if read[1][:max_length] == read[2][:max_length]:
            reasons["identical_after_truncation"] += 1
            return None
        return {
            "event_id": row["event_id"],
            "prompt": template.fitted(asked),
            "chosen": as_rows([("assistant", template.said(chosen))]),
            "rejected": as_rows([("assistant", template.said(rejected))]),
        }

    kept = [found for row in dataset if (found := usable(row))]
    return Dataset.from_list(kept), reasons
