"""A person asks to be forgotten: what they said and asked leaves every log, database and dataset; what is left is told.

Votes of others on a question that this person asked are theirs too, as far as it is known whose a question was. Runs
while the programs are stopped. The preference log is rewritten without them, so the warehouse is built again
afterwards. Interrupted, it can simply be run again.
"""

import shutil
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import duckdb
import msgspec

from dpo_pipeline.core.feedback import WORDS
from dpo_pipeline.core.votes import Preference, prompt_key, prompt_text
from dpo_pipeline.errors import InvalidRequest
from dpo_pipeline.loop import looked_for
from dpo_pipeline.loop.curate import rebuild_warehouse
from dpo_pipeline.loop.feedback_marks import apply_marks, plan_marks
from dpo_pipeline.loop.personal_traces import SHORTEST, Trace, forms_of, traces
from dpo_pipeline.loop.trace import all_votes, datasets_with
from dpo_pipeline.settings import Settings
from dpo_pipeline.stores import artifacts
from dpo_pipeline.stores.bank import read_bank, read_edge_cases
from dpo_pipeline.stores.database import check_nobody_serves
from dpo_pipeline.stores.key_ring import KeyRing
from dpo_pipeline.stores.ledger import Ledger, utc_now
from dpo_pipeline.stores.log import FILES, Change, days_of
from dpo_pipeline.stores.logs import logs_of
from dpo_pipeline.stores.pseudonyms import theirs
from dpo_pipeline.stores.published_files import forget_published
from dpo_pipeline.stores.served_texts import ServedText, read_texts
from dpo_pipeline.stores.serving_log import all_feedback, read_day
from dpo_pipeline.stores.serving_state import (
    StoredRequest,
    forget_person,
    kept_requests,
    nicknames_of,
    own_turns,
    people_of,
    place_of,
)
from dpo_pipeline.stores.shared_artifacts import store_of
from dpo_pipeline.stores.warehouse import Warehouse, prepare

REMADE = (
    ("training",),
    ("progress",),
    ("logs",),
    ("reports", "weekly.html"),
    ("reports", "requests.parquet"),
    ("reports", "feedback.parquet"),
)
"""Folders whose files are made again, so that those with something of the person in them are deleted."""
HEAD_BYTES, ENOUGH_BYTES = 24, 60
"""So much of a text is looked for; so much, or all that is left of a line that was cut, tells that it is the same."""


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
        ServiceError: a server of another machine still works on the shared database.
    """
    check_nobody_serves(settings.database_url)
    if not people or not all(person.strip() for person in people):
        raise InvalidRequest("An empty name is nobody's. Name the person, or the pseudonym that stands in the log.")
    found = Forgotten()
    _check_warehouse(settings)
    known = _KnownTexts(settings)
    people = tuple({*people, *_claims(settings, people)}) if name else people
    texts = _texts_of(settings, people, known)
    person = _Person(people, frozenset(prompt_key(text) for text in texts if len(text) >= SHORTEST), tuple(texts))
    given = [each for each in all_votes(settings) if person.is_behind(each)]
    said = {each.event_id for each in all_feedback(settings.serving_log_dir) if each.user in people}
    events = {each.event_id for each in given} | said
    texts += [text for each in given for text in _said_in(each, people) if text not in known]
    names = {_plain(each) for each in (*people, name) if each}
    texts += _reasons(settings.reviews_log, lambda row: _plain(str(row.get("actor"))) in names)
    texts += _noted(settings.audit_log, names)
    texts += [form for each in nicknames_of(place_of(settings), people) for form in _forms_of_nickname(each)]
    people, texts = looked_for.begin(settings.data_dir, people, texts)
    store = store_of(settings)
    if store:  # a dataset that was never brought here may be theirs too
        for folder in store.folders(settings.artifacts_dir / "datasets"):
            store.pull(folder)
    with Ledger(settings.ledger_address) as ledger:
        used = list(datasets_with(settings, events, ledger.versions()))
    plan_marks(settings, people, person.is_behind)
    found.versions = sorted({name for each in used if each.part != "eval" for name in (*each.versions, *each.waiting)})
    for directory in sorted({each.directory for each in used}):
        found.datasets.append(directory.name)
        if store:
            store.drop(directory)
        # The manifest last: by it a dataset is found again, should this be interrupted.
        for path in sorted(directory.rglob("*"), reverse=True):
            if path.name != artifacts.MANIFEST:
                path.rmdir() if path.is_dir() else path.unlink()
        shutil.rmtree(directory)
    logs = logs_of(settings)
    found.reviews = logs.rewrite(settings.reviews_log, _without(lambda line: _field(line, "event_id") in events))
    found.reviews += logs.rewrite(settings.reviews_log, _nobodys(names))
    found.quarantined = FILES.rewrite(settings.quarantine_log, _without(person.stands_in))
    # Made from corrections and chosen answers of everybody; the next SFT round makes them again.
    shutil.rmtree(settings.artifacts_dir / "demonstrations", ignore_errors=True)
    if store:
        store.drop_files(settings.artifacts_dir / "demonstrations")
    # Tokens are no texts that could be found; a training that is not finished makes them again.
    for tokens in settings.training_dir.glob("*/llamafactory/tokens"):
        shutil.rmtree(tokens)
    theirs = _without(lambda line: _field(line, "event_id") in events or person.wrote(line))
    found.votes = logs.rewrite(settings.prefs_log, theirs)
    _take_back(settings)
    rebuild_warehouse(settings, utc_now())
    # After the votes: what they asked stands here alone, and running this again has to find it.
    for path in days_of(settings.serving_log_dir):
        found.requests += logs.rewrite(path, _without(person.wrote))
    for path in days_of(settings.served_texts_dir):
        logs.rewrite(path, _without(person.wrote))
    apply_marks(settings)
    for each in people:
        forget_person(place_of(settings), each)
    forget_published(settings)
    if name:
        KeyRing(settings.keys_log, logs).forget(name)
    others = _said_by_others(settings)
    found.left = _look_again(settings.data_dir, [*people, *(text for text in texts if prompt_key(text) not in others)])
    looked_for.end(settings.data_dir, people)
    return found


@dataclass(frozen=True)
class _Person:
    """By what somebody is known: pseudonyms, questions of theirs (`prompt_key`), and the texts of these."""

    people: Sequence[str]
    asked: frozenset[str]
    texts: Sequence[str]

    def is_behind(self, vote: Preference) -> bool:
        """They voted, or somebody voted on a question of theirs; of old votes their words have to tell."""
        if vote.annotator in self.people or vote.asked_by in self.people:
            return True
        return vote.from_people and vote.asked_by is msgspec.UNSET and prompt_key(vote.prompt) in self.asked

    def wrote(self, line: bytes) -> bool:
        """A line of theirs; one that cannot be read is theirs where something of them stands in it."""
        row = _row(line)
        return self.stands_in(line) if row is None else self._names_them(row)

    def stands_in(self, line: bytes) -> bool:
        """A pseudonym of theirs, or the beginning of what they asked."""
        return any(mark.encode() in line for mark in self.people) or any(
            _begins_in(line, form) for text in self.texts if len(text) >= SHORTEST for form in forms_of(text)
        )

    def _names_them(self, row: dict[str, Any]) -> bool:
        return any(row.get(whose) in self.people for whose in ("annotator", "asked_by", "user"))


class _KnownTexts:
    """Texts of the question bank and what stands within them: nobody's, whoever typed them."""

    def __init__(self, settings: Settings):
        bank, edge = read_bank(settings.bank_dir), read_edge_cases(settings.bank_dir)
        texts = [each.question for each in bank] + [each.question for each in edge]
        texts += [text for each in bank for text in (*each.terse, *each.detailed, *each.wrong, each.reference)]
        self._all = "\n".join(_plain(text) for text in texts)

    def __contains__(self, text: str) -> bool:
        return _plain(text) in self._all


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())


def _texts_of(settings: Settings, people: Sequence[str], known: _KnownTexts) -> list[str]:
    """What they asked in chats and said of answers in their own words."""
    kept: Iterator[StoredRequest | ServedText] = chain(
        kept_requests(place_of(settings)), read_texts(settings.served_texts_dir)
    )
    texts = [text for each in kept if each.user in people for text in own_turns(each.prompt)]
    for record in all_feedback(settings.serving_log_dir):
        if record.user in people:
            texts += [*own_turns(record.prompt), *([str(record.value)] if record.signal in WORDS else [])]
    return [text for text in dict.fromkeys(texts) if text not in known]


def _said_in(vote: Preference, people: Sequence[str]) -> list[str]:
    """Of a vote that goes, the texts that nothing else may hold: question and reason, where these were theirs."""
    asked = [prompt_text(vote.prompt)] if vote.asked_by in people else []
    return [*asked, vote.reason] if vote.annotator in people and vote.reason else asked


def _reasons(reviews: Path, of: Callable[[dict[str, Any]], bool]) -> list[str]:
    """Why some took others' votes out or put them back, in their words."""
    lines = reviews.read_bytes().splitlines() if reviews.exists() else []
    return [str(row["reason"]) for row in map(_row, lines) if row and "reason" in row and of(row)]


def _noted(audit: Path, names: set[str]) -> list[str]:
    """What they gave as a reason with orders that were noted, refused ones too: as it stands there, and without that to
    which it belongs.
    """
    rows = map(_row, audit.read_bytes().splitlines() if audit.exists() else [])
    details = [str(row.get("detail", "")) for row in rows if row and _plain(str(row.get("who"))) in names]
    return [text for detail in details for text in (detail, detail.partition(": ")[2]) if text]


def _forms_of_nickname(nickname: str) -> tuple[str, ...]:
    """A short one is anybody's word, but not where it is called a nickname."""
    return (nickname, f'"nickname":"{nickname}"', f'"nickname": "{nickname}"')


def _begins_in(line: bytes, form: bytes) -> bool:
    """Whether a text stands in a line, or its beginning where the line ends within it."""
    found = line.find(form[:HEAD_BYTES])
    if found < 0:
        return False
    there = line[found : found + len(form)]
    same = next((at for at, (a, b) in enumerate(zip(there, form, strict=False)) if a != b), len(there))
    return same >= min(len(form), ENOUGH_BYTES) or found + same >= len(line.rstrip(b'\n"}'))


def _claims(settings: Settings, people: Sequence[str]) -> set[str]:
    """Pseudonyms of whoever came under one of these names without showing a key, from whatever address."""
    met = {each.annotator for each in all_votes(settings)} | set(people_of(place_of(settings)))
    for path in days_of(settings.serving_log_dir):
        met |= {record.user for record in read_day(path)}
    met |= {text.user for text in read_texts(settings.served_texts_dir)}
    return set(filter(theirs(people), met))


def _said_by_others(settings: Settings) -> set[str]:
    """`prompt_key`s of what others who are still here asked or gave as a reason: the same words, not this person's."""
    said = [text for each in kept_requests(place_of(settings)) for text in own_turns(each.prompt)]
    said += _reasons(settings.reviews_log, lambda row: True)
    votes = list(all_votes(settings))
    said += [each.reason for each in votes if each.reason]
    return {*map(prompt_key, said), *(prompt_key(each.prompt) for each in votes if each.asked_by is not msgspec.UNSET)}


def _nobodys(names: set[str]) -> Change:
    """Orders that they gave about others' votes stay in effect, but no longer say who gave them and why."""

    def change(line: bytes) -> bytes:
        row = _row(line)
        if row is not None and _plain(str(row.get("actor"))) in names:
            return msgspec.json.encode(row | {"actor": "forgotten", "reason": "forgotten"})
        return line

    return change


def _look_again(data_dir: Path, marks: Sequence[str]) -> list[Trace]:
    """Delete what is made again anyway, and tell of the rest."""
    left = []
    for trace in traces(data_dir, marks):
        if trace.path == looked_for.kept_in(data_dir):
            continue
        if any(trace.path.is_relative_to(data_dir.joinpath(*each)) for each in REMADE):
            trace.path.unlink(missing_ok=True)
        else:
            left.append(trace)
    return left


def _check_warehouse(settings: Settings) -> None:
    """Before anything is removed: what versions have seen is worked out with it.

    Raises:
        ArtifactCorrupt: an earlier version of this program made it, with other columns.
    """
    if settings.warehouse_path.exists():
        with closing(duckdb.connect(str(settings.warehouse_path))) as connection:
            prepare(connection)


def _take_back(settings: Settings) -> None:
    """The versions have then seen fewer of the pairs that are left: those after them would be skipped otherwise."""
    if not settings.warehouse_path.exists():
        return
    kept = {each.event_id for each in all_votes(settings)}
    with closing(duckdb.connect(str(settings.warehouse_path), read_only=True)) as connection:
        places = Warehouse(connection, settings.prefs_log).valid_places_without(kept)
    with Ledger(settings.ledger_address) as ledger:
        for record in ledger.versions():
            if fewer := bisect_left(places, record.pairs_seen):
                ledger.forget_pairs(record.name, fewer)


def _without(unwanted: Callable[[bytes], bool]) -> Change:
    """Removes lines of a log."""
    return lambda line: None if unwanted(line) else line


def _row(line: bytes) -> dict[str, Any] | None:
    try:
        row = msgspec.json.decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    return row if isinstance(row, dict) else None


def _field(line: bytes, name: str) -> str:
    return str((_row(line) or {}).get(name, ""))
