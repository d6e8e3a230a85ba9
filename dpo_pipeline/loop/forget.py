"""A person asks to be forgotten: what they said and asked leaves every log, database and dataset; what is left is told.

Votes of others on a question that this person asked are theirs too, as far as it is known whose a question was. Runs
while the programs are stopped. The preference log is rewritten without them, so the warehouse is built again
afterwards. Interrupted, it can simply be run again.
"""

import fcntl
import shutil
from bisect import bisect_left
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import msgspec

from dpo_pipeline.core.votes import Preference, prompt_key, prompt_text
from dpo_pipeline.errors import InvalidRequest
from dpo_pipeline.loop.curate import rebuild_warehouse
from dpo_pipeline.loop.demonstrations import corrections
from dpo_pipeline.loop.personal_traces import SHORTEST, Trace, forms_of, traces
from dpo_pipeline.loop.trace import all_votes, datasets_with
from dpo_pipeline.settings import Settings
from dpo_pipeline.stores import artifacts
from dpo_pipeline.stores.artifacts import replacing
from dpo_pipeline.stores.bank import read_bank, read_edge_cases
from dpo_pipeline.stores.key_ring import KeyRing
from dpo_pipeline.stores.ledger import Ledger, utc_now
from dpo_pipeline.stores.serving_state import forget_person, newest_prompts, own_turns, prompts_of
from dpo_pipeline.stores.warehouse import Warehouse

REMADE = ("reports", "training", "progress", "logs")
"""Folders whose files are made again, so that those with something of the person in them are deleted."""
HEAD_BYTES = 24
"""So much of a text is enough to know the beginning of a line by, which is all that quarantine keeps of it."""


@dataclass
class Forgotten:
    """What was removed; versions trained on it that still serve or could; and files that still hold something."""

    votes: int = 0
    requests: int = 0
    reviews: int = 0
    quarantined: int = 0
    datasets: list[str] = field(default_factory=list)
    versions: list[str] = field(default_factory=list)
    left: list[Trace] = field(default_factory=list)


def forget(settings: Settings, *people: str, name: str = "") -> Forgotten:
    """Remove everything of one person.

    Args:
        people: the person's pseudonyms, as they stand in the logs.
        name: as it stands beside a key, where they hold one.

    Raises:
        InvalidRequest: an empty pseudonym, which would be found in everything.
    """
    if not people or not all(person.strip() for person in people):
        raise InvalidRequest("An empty name is nobody's. Name the person, or the pseudonym that stands in the log.")
    found = Forgotten()
    texts = _texts_of(settings, people)
    person = _Person(people, frozenset(prompt_key(text) for text in texts), tuple(texts))
    theirs = [each for each in all_votes(settings) if person.is_behind(each)]
    events = {each.event_id for each in theirs}
    texts += [text for each in theirs for text in _said_in(each, people)]
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
    found.reviews += _nobodys(settings.reviews_log, {*people, name} - {""})
    found.quarantined = _without(settings.quarantine_log, person.stands_in)
    for path in sorted(settings.serving_log_dir.glob("????-??-??.jsonl")):
        found.requests += _without(path, person.wrote)
    for each in people:
        forget_person(settings.serving_state, each)
    if name:
        KeyRing(settings.keys_log).forget(name)
    # Made from corrections and chosen answers of everybody; the next SFT round makes them again.
    shutil.rmtree(settings.artifacts_dir / "demonstrations", ignore_errors=True)
    # Last: while a line stands in this log, running this again finds the rest.
    found.votes = _without(settings.prefs_log, lambda line: _field(line, "event_id") in events or person.wrote(line))
    _take_back(settings, theirs)
    rebuild_warehouse(settings, utc_now())
    also_others = _asked_by_others(settings)
    found.left = _look_again(settings, [*people, *(text for text in texts if prompt_key(text) not in also_others)])
    return found


@dataclass(frozen=True)
class _Person:
    """By what somebody is known: pseudonyms, questions of theirs (`prompt_key`), and the texts of these."""

    people: Sequence[str]
    asked: frozenset[str]
    texts: Sequence[str]

    def is_behind(self, vote: Preference) -> bool:
        """They voted, or somebody voted on a question of theirs."""
        return (
            vote.annotator in self.people
            or vote.asked_by in self.people
            or (vote.asked_by is msgspec.UNSET and prompt_key(vote.prompt) in self.asked)
        )

    def wrote(self, line: bytes) -> bool:
        """A line of theirs; one that cannot be read is theirs where something of them stands in it."""
        row = _row(line)
        return self.stands_in(line) if row is None else self._names_them(row)

    def stands_in(self, line: bytes) -> bool:
        """A pseudonym of theirs, or the beginning of what they asked."""
        return any(mark.encode() in line for mark in self.people) or any(
            form[:HEAD_BYTES] in line for text in self.texts if len(text) >= SHORTEST for form in forms_of(text)
        )

    def _names_them(self, row: dict[str, Any]) -> bool:
        return any(row.get(whose) in self.people for whose in ("annotator", "asked_by", "user"))


def _texts_of(settings: Settings, people: Sequence[str]) -> list[str]:
    """What they asked in chats and how they corrected answers, without questions of the bank."""
    texts = prompts_of(settings.serving_state, people)
    for record in corrections(settings.serving_log_dir):
        if record.user in people:
            texts += [*own_turns(record.prompt), record.correction]
    known = {prompt_key(each.question) for each in read_bank(settings.bank_dir)}
    known |= {prompt_key(each.question) for each in read_edge_cases(settings.bank_dir)}
    return [text for text in dict.fromkeys(texts) if prompt_key(text) not in known]


def _said_in(vote: Preference, people: Sequence[str]) -> list[str]:
    """Of a vote that goes, the texts that nothing else may hold: the question where it was theirs."""
    return [prompt_text(vote.prompt)] if vote.asked_by in people else []


def _asked_by_others(settings: Settings) -> set[str]:
    """`prompt_key`s of what others asked who are still here: the same words, and not this person's."""
    asked = {prompt_key(text) for text in newest_prompts(settings.serving_state)}
    return asked | {prompt_key(each.prompt) for each in all_votes(settings) if each.asked_by is not msgspec.UNSET}


def _nobodys(path: Path, names: set[str]) -> int:
    """Orders that they gave about others' votes stay in effect, but no longer say who gave them and why."""
    if not path.exists():
        return 0
    changed = 0
    lines = []
    for line in path.read_bytes().splitlines(keepends=True):
        row = _row(line)
        if row is not None and row.get("actor") in names:
            line = msgspec.json.encode(row | {"actor": "forgotten", "reason": "forgotten"}) + b"\n"
            changed += 1
        lines.append(line)
    if changed:
        with replacing(path) as file:
            file.writelines(lines)
    return changed


def _look_again(settings: Settings, marks: Sequence[str]) -> list[Trace]:
    """Delete what is made again anyway, and tell of the rest."""
    left = []
    for trace in traces(settings.data_dir, marks):
        if trace.path.relative_to(settings.data_dir).parts[0] in REMADE:
            trace.path.unlink()
        else:
            left.append(trace)
    return left


def _take_back(settings: Settings, gone: Sequence[Preference]) -> None:
    """The versions have then seen fewer of the pairs that are left: those after them would be skipped otherwise."""
    if not settings.warehouse_path.exists():
        return
    with closing(duckdb.connect(str(settings.warehouse_path), read_only=True)) as connection:
        places = Warehouse(connection, settings.prefs_log).valid_places({each.event_id for each in gone})
    with Ledger(settings.ledger_address) as ledger:
        for record in ledger.versions():
            if fewer := bisect_left(places, record.pairs_seen):
                ledger.forget_pairs(record.name, fewer)


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


def _row(line: bytes) -> dict[str, Any] | None:
    try:
        row = msgspec.json.decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    return row if isinstance(row, dict) else None


def _field(line: bytes, name: str) -> str:
    return str((_row(line) or {}).get(name, ""))
