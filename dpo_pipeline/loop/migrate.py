"""A data folder into the database that machines share, and back into files. Runs while the programs are stopped.

Interrupted, it is run again and goes on: what is there already is not written twice. At the end both sides are
compared, line by line and row by row.
"""

import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from dpo_pipeline.errors import MigrationRefused
from dpo_pipeline.settings import Settings
from dpo_pipeline.stores.artifacts import file_sha256, write_text
from dpo_pipeline.stores.database import known_secret, shared_secret
from dpo_pipeline.stores.ledger import Ledger
from dpo_pipeline.stores.ledger.tables import METADATA as LEDGER
from dpo_pipeline.stores.log_copies import COPY, LOCK
from dpo_pipeline.stores.log_tables import key_of
from dpo_pipeline.stores.logs import shared_files, shared_logs
from dpo_pipeline.stores.pseudonyms import key_file
from dpo_pipeline.stores.serving_state import opened_for_copy
from dpo_pipeline.stores.serving_state.tables import METADATA as STATE
from dpo_pipeline.stores.shared_logs import SharedLogs

BATCH, EARLIER = 5_000, ".earlier"


@dataclass(frozen=True)
class Migrated:
    """Lines by log, and rows by table; all were compared afterwards."""

    lines: dict[str, int]
    rows: dict[str, int]


def into_database(settings: Settings, url: str) -> Migrated:
    """Copy what stands in files into a database; the files stay as they are, as this folder's copies.

    Args:
        settings: of the folder, without a database.

    Raises:
        MigrationRefused: something else stands there, or what is there afterwards is not what is here.
        DatabaseUnavailable: run it again.
    """
    there = settings.model_copy(update={"database_url": url})
    logs = _shared(there)
    _copy_secret(settings, logs)
    with Ledger(settings.ledger_address) as source, Ledger(there.ledger_address) as target:
        rows = _copy_tables(source.engine, target.engine, LEDGER)
    with opened_for_copy(settings.serving_state) as source_engine, opened_for_copy(logs.engine) as target_engine:
        rows |= _copy_tables(source_engine, target_engine, STATE)
    for path in shared_files(settings):
        _end_last_line(path)
    lines = {str(path.relative_to(settings.data_dir)): _copy_log(logs, path) for path in shared_files(settings)}
    with tempfile.TemporaryDirectory(prefix="dpo-migrate-") as folder:
        elsewhere = SharedLogs(logs.engine, Path(folder))
        elsewhere.follow()
        _require_all(elsewhere, lines)
        _compare(settings.data_dir, Path(folder), lines)
        logs.copies.take_over(elsewhere.copies.copied())
    return Migrated(lines, rows)


def into_files(settings: Settings) -> Migrated:
    """Copy what stands in the database into this folder, which then needs none. Databases of before, from which it may
    have been migrated, are kept beside as `….earlier`.

    Args:
        settings: of the folder, with the database.

    Raises:
        MigrationRefused, DatabaseUnavailable: as `into_database`.
    """
    here, logs = settings.model_copy(update={"database_url": None}), _shared(settings)
    logs.follow()
    secret = known_secret(logs.engine, key_file(here.data_dir).name)
    if secret is None:
        raise MigrationRefused("The database holds no signing key: no server ever worked on it. Nothing was changed.")
    lines = {}
    for path in shared_files(settings):
        with path.open("rb") as file:
            lines[str(path.relative_to(settings.data_dir))] = sum(1 for _ in file)
    _require_all(logs, lines)
    write_text(key_file(here.data_dir), secret.decode(), mode=0o600)
    for database in (settings.data_dir / "ledger.db", settings.serving_state):
        for path in database.parent.glob(f"{database.name}*"):
            if not path.name.endswith(EARLIER):
                path.rename(path.with_name(f"{path.name}{EARLIER}"))
    with Ledger(settings.ledger_address) as source, Ledger(here.ledger_address) as target:
        rows = _copy_tables(source.engine, target.engine, LEDGER)
    with opened_for_copy(logs.engine) as source_engine, opened_for_copy(here.serving_state) as target_engine:
        rows |= _copy_tables(source_engine, target_engine, STATE)
    # The logs are this folder's own from now on.
    (settings.data_dir / COPY).unlink(missing_ok=True)
    (settings.data_dir / LOCK).unlink(missing_ok=True)
    return Migrated(lines, rows)


def _shared(settings: Settings) -> SharedLogs:
    logs = shared_logs(settings)
    if logs is None:
        raise MigrationRefused("No database is named. Name one: --to postgresql://user@host/name.")
    return logs


def _require_all(logs: SharedLogs, lines: dict[str, int]) -> None:
    """
    Raises:
        MigrationRefused: the copies are not as far as the database, or the other way round.
    """
    for log in sorted({*lines, *logs.names()}):
        there = logs.count_of(log)
        if there != lines.get(log, 0):
            raise MigrationRefused(
                f"{log} has {lines.get(log, 0)} lines here and {there} in the database. Stop what writes to either; a "
                "transaction that stays open on that Postgres, such as a dump, holds lines back too: let it end. Then "
                "run it again; nothing was changed."
            )


def _end_last_line(path: Path) -> None:
    """A program may have died in the middle of one: as the next append would, so that what follows stands alone."""
    with path.open("r+b") as file:
        if not file.seek(0, os.SEEK_END):
            return
        file.seek(-1, os.SEEK_END)
        if file.read(1) != b"\n":
            file.write(b"\n")


def _copy_secret(settings: Settings, logs: SharedLogs) -> None:
    path = key_file(settings.data_dir)
    if path.exists() and shared_secret(logs.engine, path.name, partial(_key_in, path)).decode() != _key_in(path):
        raise MigrationRefused(
            "Servers that worked on this database have another signing key: what people said there would be other "
            "people's here. Name an empty database. Nothing was changed."
        )


def _key_in(path: Path) -> str:
    return path.read_text().strip()


def _copy_log(logs: SharedLogs, path: Path) -> int:
    """How many lines it has; those that are there already are not written again."""
    with path.open("rb") as file:
        lines = _with_keys(line.removesuffix(b"\n") for line in file)
        done = sum(1 for _ in islice(lines, logs.count(path)))
        while batch := list(islice(lines, BATCH)):
            logs.append(path, [line for line, _ in batch], [key for _, key in batch])
            done += len(batch)
    if done != logs.count(path):
        raise MigrationRefused(
            f"{path} has {done} lines, the database {logs.count(path)}: something else was written there. Name an "
            "empty database, or stop what writes to this one."
        )
    return done


def _with_keys(lines: Iterable[bytes]) -> Iterator[tuple[bytes, str | None]]:
    """By what a line that is sent again is known; of one that stands there twice the first has it."""
    seen: set[str] = set()
    for line in lines:
        key = key_of(line)
        yield line, None if key in seen else key
        if key is not None:
            seen.add(key)


def _copy_tables(source: sa.Engine, target: sa.Engine, metadata: sa.MetaData) -> dict[str, int]:
    """Rows by table. A table that holds the same rows already stays; one that holds others is refused."""
    copied = {}
    for table in metadata.sorted_tables:
        with source.connect() as connection:
            rows = _rows(connection, table)
        with target.begin() as connection:
            if not (found := _rows(connection, table)):
                for start in range(0, len(rows), BATCH):
                    connection.execute(sa.insert(table), rows[start : start + BATCH])
                _go_on_counting(connection, table, rows)
                found = _rows(connection, table)
            if found != rows:
                raise MigrationRefused(
                    f"Table {table.name} holds {len(found)} rows there that are not the {len(rows)} of here. Name an "
                    "empty database, or an empty folder. Nothing was changed in it."
                )
        copied[table.name] = len(rows)
    return copied


def _rows(connection: sa.Connection, table: sa.Table) -> list[dict[str, Any]]:
    query = sa.select(table).order_by(*table.primary_key)
    return [dict(row) for row in connection.execute(query).mappings()]


def _go_on_counting(connection: sa.Connection, table: sa.Table, rows: Sequence[dict[str, Any]]) -> None:
    """Postgres draws numbers from a sequence, which does not see those that came with the rows."""
    column = table.autoincrement_column
    if column is not None and rows and connection.dialect.name == "postgresql":
        name = sa.func.pg_get_serial_sequence(table.name, column.name)
        connection.execute(sa.select(sa.func.setval(name, max(row[column.name] for row in rows))))


def _compare(here: Path, there: Path, lines: dict[str, int]) -> None:
    different = [log for log in lines if file_sha256(here / log) != file_sha256(there / log)]
    if different:
        raise MigrationRefused(
            f"{', '.join(different)} of the database would not be the file that is here, byte for byte. Stop what "
            "writes to either, and name an empty database."
        )
