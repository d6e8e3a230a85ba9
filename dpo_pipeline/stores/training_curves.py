"""The curve of each training, beside the reports: pages show it where MLflow is down or on another machine."""

from collections.abc import Sequence
from pathlib import Path

import msgspec

from dpo_pipeline.core.training_curve import Point
from dpo_pipeline.stores.artifacts import write_text


def write_curve(reports_dir: Path, name: str, attempt: int, points: Sequence[Point]) -> None:
    """In place of what an earlier training of the same attempt left."""
    write_text(_path(reports_dir, name, attempt), msgspec.json.encode(points).decode())


def read_curve(reports_dir: Path, name: str, attempt: int) -> list[Point]:
    """Empty where it was not trained yet, or before curves were kept."""
    path = _path(reports_dir, name, attempt)
    return msgspec.json.decode(path.read_bytes(), type=list[Point]) if path.exists() else []


def _path(reports_dir: Path, name: str, attempt: int) -> Path:
    return reports_dir / "training" / f"{name}-attempt{attempt}.json"
