"""One person under several pseudonyms becomes one again.

Earlier versions of this program made a pseudonym of a name as it was typed, so that the same name in other Unicode
letters was somebody else. Only the name itself tells which pseudonyms those are: a keyed hash leads nowhere back. Runs
while the programs are stopped; interrupted, it can simply be run again.
"""

from collections.abc import Callable, Collection
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import duckdb

from dpo_pipeline.loop.curate import curate, rebuild_warehouse
from dpo_pipeline.loop.ingest import ingest
from dpo_pipeline.settings import Settings
from dpo_pipeline.stores.leadership import check_nobody_serves
from dpo_pipeline.stores.ledger import Ledger, utc_now
from dpo_pipeline.stores.log_reading import days_of
from dpo_pipeline.stores.logs import logs_of
from dpo_pipeline.stores.pseudonyms import known_pseudonyms
from dpo_pipeline.stores.serving_state import join_people, place_of
from dpo_pipeline.stores.warehouse import Warehouse, prepare


@dataclass(frozen=True)
class Joined:
    """How much stood under other spellings: lines of the preference log, of other logs, rows of the serving state."""

    votes: int = 0
    lines: int = 0
    rows: int = 0


def join_spellings(settings: Settings, name: str) -> Joined:
    """Write the pseudonym that `name` has now wherever one of its earlier ones stands, and validate all votes again.

    Two votes on one pair that were two people's are one's now: what is no valid pair any more is taken off what
    versions have seen, so that the pairs after it are not skipped.
    """
    check_nobody_serves(settings.database_url)
    person, *earlier = known_pseudonyms(name, settings) or [""]
    if not earlier:
        return Joined()
    others = [*days_of(settings.serving_log_dir), *days_of(settings.served_texts_dir)]
    logs = logs_of(settings)

    def joined(line: bytes) -> bytes:
        return _joined(line, earlier, person)

    lines = sum(logs.rewrite(path, joined) for path in others)
    if lines:  # made again with the next feedback
        settings.feedback_table.unlink(missing_ok=True)
    rows = join_people(place_of(settings), earlier, person)
    votes = 0
    if _stand_in(settings.prefs_log, joined):
        before = _valid(settings)
        rebuild_warehouse(settings, utc_now())  # first: interrupted, the log is no other than the one that was read
        votes = logs.rewrite(settings.prefs_log, joined)
        _take_off_seen(settings.ledger_address, before, set(_valid(settings)))
    return Joined(votes, lines, rows)


def _valid(settings: Settings) -> list[str]:
    """The events of all valid pairs, in log order, of a warehouse that is as far as the log."""
    settings.warehouse_path.parent.mkdir(parents=True, exist_ok=True)
    with closing(duckdb.connect(str(settings.warehouse_path))) as connection:
        prepare(connection)
        warehouse = Warehouse(connection, settings.prefs_log)
        ingest(warehouse, settings.quarantine_log, settings.collection.max_line_bytes, settings.quality)
        curate(settings, warehouse)
        return [pair.event_id for pair in warehouse.valid_pairs()]


def _take_off_seen(ledger_address: str, before: list[str], now: set[str]) -> None:
    with Ledger(ledger_address) as ledger:
        for record in ledger.versions():
            if fewer := sum(event not in now for event in before[: record.pairs_seen]):
                ledger.forget_pairs(record.name, fewer)


def _stand_in(path: Path, joined: Callable[[bytes], bytes]) -> bool:
    if not path.exists():
        return False
    with path.open("rb") as log:
        return any(joined(line) != line for line in log)


def _joined(line: bytes, earlier: Collection[str], person: str) -> bytes:
    """Whole JSON strings only: what people typed may hold such digits too, and its quotation marks are escaped."""
    for each in earlier:
        line = line.replace(f'"{each}"'.encode(), f'"{person}"'.encode())
    return line
