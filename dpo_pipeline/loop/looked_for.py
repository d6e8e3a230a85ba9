"""By what somebody is looked for while they are forgotten, kept until the last look is done.

Pseudonyms and texts leave the logs that they are read from before the last look. Interrupted in between, the same
removal again would not know them any more, and would find nothing. One file, for its owner alone, gone afterwards.
"""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from dpo_pipeline.stores.artifacts import write_text


def begin(data_dir: Path, people: Iterable[str], texts: Sequence[str]) -> tuple[tuple[str, ...], list[str]]:
    """Keep them; returns them with those of interrupted removals of any of the same people.

    Args:
        people: pseudonyms and names.
    """
    before = _read(data_dir)
    whose, found = dict.fromkeys(people), dict.fromkeys(texts)
    for each in _of(before, whose):
        whose |= dict.fromkeys(each["people"])
        found |= dict.fromkeys(each["texts"])
    others = [each for each in before if each not in _of(before, whose)]
    _write(data_dir, [*others, {"people": list(whose), "texts": list(found)}])
    return tuple(whose), list(found)


def end(data_dir: Path, people: Iterable[str]) -> None:
    """The last look at these people's is done."""
    before = _read(data_dir)
    _write(data_dir, [each for each in before if each not in _of(before, people)])


def kept_in(data_dir: Path) -> Path:
    return data_dir / "looked_for.json"


def _of(kept: Sequence[dict[str, Any]], people: Iterable[str]) -> list[dict[str, Any]]:
    wanted = set(people)
    return [each for each in kept if not wanted.isdisjoint(each["people"])]


def _read(data_dir: Path) -> list[dict[str, Any]]:
    if not kept_in(data_dir).exists():
        return []
    found: list[dict[str, Any]] = json.loads(kept_in(data_dir).read_text(encoding="utf-8"))
    return found


def _write(data_dir: Path, kept: Sequence[dict[str, Any]]) -> None:
    if kept:
        write_text(kept_in(data_dir), json.dumps(kept), mode=0o600)
    else:
        kept_in(data_dir).unlink(missing_ok=True)
