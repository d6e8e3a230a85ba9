"""A person asks to be forgotten: their lines leave every log, database and dataset; what was trained on them is listed.

Runs while the programs are stopped. The preference log is rewritten without them, so the warehouse is built again
afterwards. Interrupted, it can simply be run again.
"""

import fcntl
import shutil
from bisect import bisect_left
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import duckdb
import msgspec

from dpo_pipeline.errors import InvalidRequest
from dpo_pipeline.loop.curate import rebuild_warehouse
from dpo_pipeline.loop.trace import all_votes, datasets_with
from dpo_pipeline.settings import Settings
from dpo_pipeline.stores import artifacts
from dpo_pipeline.stores.artifacts import replacing
from dpo_pipeline.stores.ledger import Ledger, utc_now
from dpo_pipeline.stores.serving_state import forget_person
from dpo_pipeline.stores.warehouse import Warehouse


@dataclass
class Forgotten:
    """What was removed, and the versions that were trained on it and still serve or could."""

    votes: int = 0
    requests: int = 0
    reviews: int = 0
    quarantined: int = 0
    datasets: list[str] = field(default_factory=list)
    versions: list[str] = field(default_factory=list)


def forget(settings: Settings, *people: str) -> Forgotten:
    """Remove everything of one person.

    Args:
        people: the person's pseudonyms, as they stand in the logs.

    Raises:
        InvalidRequest: an empty one, which would be found in everything.
    """
    if not people or not all(person.strip() for person in people):
        raise InvalidRequest("An empty name is nobody's. Name the person, or the pseudonym that stands in the log.")
    found = Forgotten()
    events = {each.event_id for each in all_votes(settings) if each.annotator in people}
    with Ledger(settings.ledger_address) as ledger:
        used = list(datasets_with(settings, events, ledger.versions()))
    found.versions = sorted({name for each in used if each.part == "train" for name in each.versions})
    for directory in sorted({each.directory for each in used}):
        found.datasets.append(directory.name)
        # The manifest last: by it a dataset is found again, should this be interrupted.
        for path in sorted(directory.rglob("*"), reverse=True):
            if path.name != artifacts.MANIFEST:
                path.rmdir() if path.is_dir() else path.unlink()
        shutil.rmtree(directory)
    found.reviews = _without(settings.reviews_log, lambda line: _field(line, "event_id") in events)
    marks = [person.encode() for person in people]

    def names(line: bytes) -> bool:
        return any(mark in line for mark in marks)

    found.quarantined = _without(settings.quarantine_log, names)
    for path in sorted(settings.serving_log_dir.glob("????-??-??.jsonl")):
        found.requests += _without(path, lambda line: names(line) and _field(line, "user") in people)
    for person in people:
        forget_person(settings.serving_state, person)
    # Made from corrections and chosen answers of everybody; the next SFT round makes them again.
    shutil.rmtree(settings.artifacts_dir / "demonstrations", ignore_errors=True)
    # Last: while a line stands in this log, running this again finds the rest.
    found.votes = _without(settings.prefs_log, lambda line: names(line) and _field(line, "annotator") in people)
    _take_back(settings, people)
    rebuild_warehouse(settings, utc_now())
    return found


def _take_back(settings: Settings, people: Sequence[str]) -> None:
    """The versions have then seen fewer of the pairs that are left: those after them would be skipped otherwise."""
    if not settings.warehouse_path.exists():
        return
    with closing(duckdb.connect(str(settings.warehouse_path), read_only=True)) as connection:
        store = Warehouse(connection, settings.prefs_log)
        places = sorted(place for person in people for place in store.valid_places(person))
    with Ledger(settings.ledger_address) as ledger:
        for record in ledger.versions():
            if gone := bisect_left(places, record.pairs_seen):
                ledger.forget_pairs(record.name, gone)


def _without(path: Path, unwanted: Callable[[bytes], bool]) -> int:
    """Rewrite a log without some of its lines, in one step; returns how many. One without any stays as it is."""
    if not path.exists():
        return 0
    with path.open("rb") as log:
        fcntl.flock(log, fcntl.LOCK_EX)
        removed = 0
        with replacing(path) as file:
            for line in log:
                if unwanted(line):
                    removed += 1
                else:
                    file.write(line)
        return removed


def _field(line: bytes, name: str) -> str:
    try:
        row = msgspec.json.decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return ""
    return str(row.get(name, "")) if isinstance(row, dict) else ""
