"""Versions, their names and their lineage: v1.0 is the SFT baseline, v1.n the n-th DPO version."""

import re
from dataclasses import dataclass
from typing import Any

from dpo_pipeline.errors import ArtifactMissing, UnknownVersion

BASELINE = "v1.0"
_NAME = re.compile(r"v1\.(0|[1-9]\d*)")


@dataclass(frozen=True)
class VersionRecord:
    """A version as the rest of the program sees it.

    `feedback_mark`: how far people's feedback had been read for it (`core.feedback.FeedbackMark`); null: it was not.
    `feedback_pairs` and `labelled`: how many pairs and labelled answers of feedback it could train on, beside the
    `pairs_seen` votes.
    """

    name: str
    attempt: int
    status: str
    parent: str | None
    adapter_sha: str | None
    adapter_dir: str | None
    base_sha: str | None
    dataset_hash: str | None
    pairs: int | None
    pairs_seen: int
    recipe: dict[str, Any] | None
    win_rate: float | None
    evaluation: dict[str, Any] | None
    training_metrics: dict[str, float] | None
    mlflow_run: str | None
    mlflow_version: str | None
    created_at: str
    updated_at: str
    feedback_mark: dict[str, Any] | None = None
    feedback_pairs: int | None = None
    labelled: int | None = None


def iteration(name: str) -> int:
    """The n of v1.n.

    Raises:
        UnknownVersion: the name is not of that form.
    """
    match = _NAME.fullmatch(name)
    if not match:
        raise UnknownVersion(f"{name!r} is not a version name. Versions are called v1.0, v1.1, v1.2 and so on.")
    return int(match.group(1))


def check_is_later(name: str) -> None:
    """
    Raises:
        ArtifactMissing: it is v1.0, which has neither pairs nor a parent.
    """
    if name == BASELINE:
        raise ArtifactMissing(
            f"{BASELINE} is the start: it was tuned on demonstrations, without pairs of votes, and there is no earlier "
            "version to compare it with. Materialize `sft_adapter` to build it again, or pick a later version here."
        )


def is_version_name(text: str) -> bool:
    return _NAME.fullmatch(text) is not None


def version_name(n: int) -> str:
    return f"v1.{n}"


def served_name(text: str) -> str:
    """The version a person means by `chat-v1.1`, the name the pages show, or by `v1.1`."""
    return text.removeprefix("chat-")


def page_of(name: str) -> str:
    """Where a version's page is, below the address of serving."""
    return f"/versions/{name}"


def next_version(existing: list[str]) -> str:
    """The name after the newest one; names are never used twice, rejected versions keep theirs."""
    return version_name(max((iteration(name) for name in existing), default=-1) + 1)
