"""Synthetic pairs on disk: one JSON line each, replaced as a whole by every run that makes them."""

from collections.abc import Sequence
from pathlib import Path

import msgspec

from dpo_pipeline.core.dataset import Pair
from dpo_pipeline.errors import ArtifactCorrupt
from dpo_pipeline.stores.artifacts import replacing


def publish_synthetic(path: Path, pairs: Sequence[Pair]) -> None:
    with replacing(path) as file:
        file.writelines(msgspec.json.encode(pair) + b"\n" for pair in pairs)


def read_synthetic(path: Path) -> list[Pair]:
    """None before the first run.

    Raises:
        ArtifactCorrupt: a line is no pair.
    """
    if not path.exists():
        return []
    try:
        return [msgspec.json.decode(line, type=Pair) for line in path.read_bytes().split(b"\n") if line]
    except msgspec.MsgspecError as error:
        raise ArtifactCorrupt(
            f"{path} holds a line that is no pair ({error}). Delete it and make them again."
        ) from error
