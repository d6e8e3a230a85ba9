"""A person asks to be forgotten: what they said and asked leaves every log, database and dataset; what is left is told.

Votes of others on a question that this person asked are theirs too, as far as it is known whose a question was. Runs
while the programs are stopped. The preference log is rewritten without them, so the warehouse is built again
afterwards. Interrupted, it can simply be run again.
"""

import shutil
from bisect import bisect_left
from collections.abc import Callable, Collection, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import duckdb
import msgspec

from dpo_pipeline.core.votes import prompt_key
from dpo_pipeline.loop import looked_for
from dpo_pipeline.loop.belongings import Belongings, belongings, claims, plain, row_of, said_by_others
from dpo_pipeline.loop.curate import rebuild_warehouse
from dpo_pipeline.loop.feedback_marks import apply_marks, plan_marks
from dpo_pipeline.loop.looked_for import LookedFor
from dpo_pipeline.loop.personal_traces import Trace, traces
from dpo_pipeline.loop.trace import all_votes, datasets_with
from dpo_pipeline.loop.traces import UsedIn
from dpo_pipeline.request_errors import InvalidRequest
from dpo_pipeline.settings import Settings
from dpo_pipeline.stores import artifacts
from dpo_pipeline.stores.key_ring import KeyRing
from dpo_pipeline.stores.leadership import check_nobody_serves
from dpo_pipeline.stores.ledger import Ledger, utc_now
from dpo_pipeline.stores.log import FILES, Change
from dpo_pipeline.stores.log_reading import days_of
from dpo_pipeline.stores.logs import logs_of
from dpo_pipeline.stores.published_files import forget_published
from dpo_pipeline.stores.serving_state import forget_person, place_of
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
        InvalidRequest: an empty pseudonym, which would be found in everything; or a removal of somebody else was
            interrupted, and goes first.
        ServiceError: a server of another machine still works on the shared database.
    """
    check_nobody_serves(settings.database_url)
    if not people or not all(person.strip() for person in people):
        raise InvalidRequest("An empty name is nobody's. Name the person, or the pseudonym that stands in the log.")
    found = Forgotten()
    _check_warehouse(settings)
    wanted = looked_for.with_interrupted(settings.data_dir, people, name)
    people, name = wanted.people, wanted.name
    people = tuple({*people, *claims(settings, people)}) if name else people
    theirs = belongings(settings, people, name)
    texts = tuple(dict.fromkeys([*wanted.texts, *theirs.texts]))
    looked_for.begin(settings.data_dir, LookedFor(people, name, texts))
    used = _datasets_with(settings, set(theirs.events))
    plan_marks(settings, people, theirs.person.is_behind)
    found.versions = sorted({name for each in used if each.part != "eval" for name in (*each.versions, *each.waiting)})
    found.datasets = _delete_datasets(settings, sorted({each.directory for each in used}))
    _delete_demonstrations(settings)
    _rewrite_logs(settings, theirs, found)
    apply_marks(settings)
    for each in people:
        forget_person(place_of(settings), each)
    forget_published(settings)
    if name:
        KeyRing(settings.keys_log, logs_of(settings)).forget(name)
    others = said_by_others(settings)
    marks = [*people, *(text for text in texts if prompt_key(text) not in others)]
    found.left = _look_again(settings.data_dir, marks)
    looked_for.end(settings.data_dir)
    return found


def _datasets_with(settings: Settings, events: set[str]) -> list[UsedIn]:
    """Those that hold some of these; one of a shared store that was never brought here may too."""
    if store := store_of(settings):
        for folder in store.folders(settings.artifacts_dir / "datasets"):
            store.pull(folder)
    with Ledger(settings.ledger_address) as ledger:
        return list(datasets_with(settings, events, ledger.versions()))


def _delete_datasets(settings: Settings, folders: Sequence[Path]) -> list[str]:
    """Here and in the shared store; returns their names."""
    store = store_of(settings)
    for folder in folders:
        if store:
            store.drop(folder)
        # The manifest last: by it a dataset is found again, should this be interrupted.
        for path in sorted(folder.rglob("*"), reverse=True):
            if path.name != artifacts.MANIFEST:
                path.rmdir() if path.is_dir() else path.unlink()
        shutil.rmtree(folder)
    return [folder.name for folder in folders]


def _delete_demonstrations(settings: Settings) -> None:
    """What is made of everybody's corrections and chosen answers, and the tokens of trainings, which are no texts that
    could be found: the next SFT round, and a training that is not finished, make them again.
    """
    folder = settings.artifacts_dir / "demonstrations"
    shutil.rmtree(folder, ignore_errors=True)
    if store := store_of(settings):
        store.drop_files(folder)
    for tokens in settings.training_dir.glob("*/llamafactory/tokens"):
        shutil.rmtree(tokens)


def _rewrite_logs(settings: Settings, theirs: Belongings, found: Forgotten) -> None:
    """Reviews, quarantine, votes, requests and texts without them; counts what went. The warehouse is built again."""
    logs, person = logs_of(settings), theirs.person

    def is_theirs(line: bytes) -> bool:
        return _field(line, "event_id") in theirs.events

    found.reviews = logs.rewrite(settings.reviews_log, _without(is_theirs))
    found.reviews += logs.rewrite(settings.reviews_log, _nobodys(theirs.names))
    found.quarantined = FILES.rewrite(settings.quarantine_log, _without(person.stands_in))
    found.votes = logs.rewrite(settings.prefs_log, _without(lambda line: is_theirs(line) or person.wrote(line)))
    _take_back(settings)
    rebuild_warehouse(settings, utc_now())
    # After the votes: what they asked stands here alone, and running this again has to find it.
    for path in days_of(settings.serving_log_dir):
        found.requests += logs.rewrite(path, _without(person.wrote))
    for path in days_of(settings.served_texts_dir):
        logs.rewrite(path, _without(person.wrote))


def _nobodys(names: Collection[str]) -> Change:
    """Orders that they gave about others' votes stay in effect, but no longer say who gave them and why."""

    def change(line: bytes) -> bytes:
        row = row_of(line)
        if row is not None and plain(str(row.get("actor"))) in names:
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


def _field(line: bytes, name: str) -> str:
    return str((row_of(line) or {}).get(name, ""))
