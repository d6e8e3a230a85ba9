"""A folder that a real loop wrote goes into a database and comes back, and nothing of it differs."""

import sqlite3
import zipfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from dpo_pipeline.errors import MigrationRefused
from dpo_pipeline.loop.migrate import into_database, into_files
from dpo_pipeline.loop.trace import trace_vote
from dpo_pipeline.resources import WarehouseResource
from dpo_pipeline.settings import Settings
from dpo_pipeline.stores.key_ring import KeyRing
from dpo_pipeline.stores.ledger import Ledger
from dpo_pipeline.stores.log import AppendLog
from dpo_pipeline.stores.logs import follow_logs, logs_of, shared_files
from dpo_pipeline.stores.pseudonyms import signing_key
from dpo_pipeline.stores.serving_state import ServingState
from dpo_pipeline.stores.shared_logs import SharedLogs
from dpo_pipeline_tests.examples import settings_in
from dpo_pipeline_tests.postgres import Postgres

pytestmark = pytest.mark.slow

FOLDER = Path(__file__).parents[1] / "data_folders" / "6172be2.zip"


@pytest.fixture
def files(tmp_path: Path) -> Settings:
    """With a key, a nickname and an import whose id came twice."""
    with zipfile.ZipFile(FOLDER) as written:
        written.extractall(tmp_path / "files")
    settings = settings_in(tmp_path / "files")
    first = settings.prefs_log.read_bytes().split(b"\n")[0]
    AppendLog(settings.prefs_log).append_all([b"", first])
    KeyRing(settings.keys_log).add("Ann", "operator")
    signing_key(settings)
    with Ledger(settings.ledger_address):
        pass  # brought up to this version
    with closing(ServingState(settings.serving_state)) as state:
        state.join("person", "Ann")
    return settings


def contents(settings: Settings) -> dict[str, Any]:
    """Everything that moves: files byte for byte, tables row by row."""
    found: dict[str, Any] = {
        str(path.relative_to(settings.data_dir)): path.read_bytes() for path in shared_files(settings)
    }
    found["key"] = signing_key(settings)
    for database in (settings.data_dir / "ledger.db", settings.serving_state):
        with closing(sqlite3.connect(database)) as connection:
            connection.row_factory = sqlite3.Row  # by name: columns of an older table stand in another order
            names = connection.execute("select name from sqlite_master where type = 'table' order by name").fetchall()
            for (name,) in names:
                rows = connection.execute(f"select * from {name}").fetchall()
                found[name] = sorted((dict(row) for row in rows), key=lambda row: repr(sorted(row.items())))
    return found


def test_there_and_back_nothing_differs(files: Settings, database: str, tmp_path: Path) -> None:
    before = contents(files)
    moved = into_database(files, database)
    assert contents(files) == before, "the folder stays as it was"
    assert moved.lines["llmops/dpo/prefs.jsonl"] == before["llmops/dpo/prefs.jsonl"].count(b"\n")
    assert moved.rows["versions"] == 4 and moved.rows["contributors"] == 2
    back = settings_in(tmp_path / "back", database_url=database)
    assert into_files(back).lines == moved.lines
    assert contents(back.model_copy(update={"database_url": None})) == before


def test_on_the_database_the_loop_goes_on(files: Settings, database: str) -> None:
    """Decisions are numbered on, a new vote comes behind the old ones, and what was traced can be traced."""
    into_database(files, database)
    shared = files.model_copy(update={"database_url": database})
    with Ledger(shared.ledger_address) as ledger:
        known = ledger.decisions()
        ledger.record_refusal("v9.9", "no such version", "test")
        assert [each.id for each in ledger.decisions()] == [*(each.id for each in known), known[-1].id + 1]
    logs = logs_of(shared)
    assert isinstance(logs, SharedLogs)
    before = files.prefs_log.read_bytes()
    logs.open(files.prefs_log).append(b"{}")
    assert files.prefs_log.read_bytes() == before + b"{}\n"
    with WarehouseResource().open(shared) as warehouse:
        assert warehouse.position("prefs").offset <= len(before)
    assert trace_vote(shared, next(iter(all_ids(before)))) is not None


def all_ids(log: bytes) -> Iterator[str]:
    for line in log.splitlines():
        if b'"event_id":"' in line:
            yield line.split(b'"event_id":"')[1].split(b'"')[0].decode()


def test_a_folder_that_was_not_brought_there_is_refused_before_anything_is_written(
    files: Settings, database: str
) -> None:
    """Into an empty database votes would go that no migration could join with those of the folder."""
    shared = files.model_copy(update={"database_url": database})
    for reached in (follow_logs, logs_of):
        with pytest.raises(MigrationRefused, match="dpo migrate"):
            reached(shared)
    into_database(files, database)
    follow_logs(shared)


def test_interrupted_it_goes_on(files: Settings, database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real, calls = SharedLogs.append, []

    def cut_off(logs: SharedLogs, path: Path, lines: Any, keys: Any) -> Any:
        calls.append(path.name)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(logs, path, lines[:1] if len(calls) == 1 else lines, keys[:1] if len(calls) == 1 else keys)

    with monkeypatch.context() as interrupted:
        interrupted.setattr(SharedLogs, "append", cut_off)
        with pytest.raises((KeyboardInterrupt, MigrationRefused)):
            into_database(files, database)
    before = contents(files)
    again = into_database(files, database)
    assert again.lines["llmops/dpo/prefs.jsonl"] == before["llmops/dpo/prefs.jsonl"].count(b"\n")
    assert into_database(files, database) == again, "a third time changes nothing"


def test_what_another_loop_wrote_there_is_left_alone(
    files: Settings, database: str, server: Postgres, tmp_path: Path
) -> None:
    other = settings_in(tmp_path / "other")
    with Ledger(other.ledger_address) as ledger:
        ledger.record_dataset("v1.0", "hash", 1, 1)
    AppendLog(other.prefs_log).append(b"{}")
    into_database(other, database)
    with pytest.raises(MigrationRefused, match=r"holds .* rows there|signing key|something else was written"):
        into_database(files, database)
    with pytest.raises(MigrationRefused, match="no signing key"):
        into_files(settings_in(tmp_path / "third", database_url=server.new_database()))
