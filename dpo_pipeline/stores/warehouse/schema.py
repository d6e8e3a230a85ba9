"""The tables of the warehouse, and a connection that can do nothing else."""

from collections.abc import Sequence
from typing import Any

import duckdb

from dpo_pipeline.core.votes import NOT_PEOPLES
from dpo_pipeline.errors import ArtifactCorrupt
from dpo_pipeline.stores.decode import VOTE_COLUMNS

# Texts are most of a log and stay there: a row keeps the place of its line.
SCHEMA = """
create table if not exists preferences (
    sequence bigint, log_offset bigint, line_bytes bigint, event_key bigint, event_id varchar, recorded_at varchar,
    comparison_id varchar, session_id varchar, category varchar, model_a varchar, model_b varchar, vote varchar,
    left_side varchar, annotator varchar, source varchar, propensity double, pair_key bigint, first_won boolean,
    failed_alone varchar, criteria_key bigint, anonymous boolean, proven boolean, steered boolean,
    line_key bigint
);
create table if not exists validations (sequence bigint, valid boolean, failed varchar[]);
create table if not exists quarantine (log_offset bigint, length bigint, reason varchar, head varchar);
create table if not exists tallies (name varchar primary key, value bigint);
create table if not exists holdings (annotator varchar primary key, valid bigint);
create table if not exists log_position (log varchar primary key, position varchar);
create table if not exists exclusions (sequence bigint, reason varchar, action varchar);
"""
# What earlier versions of this program called it.
RENAMED = ("verdicts", "validations")
# Columns that came later, and what they are for votes from before: a warehouse of then goes on.
ADDED = (
    "alter table preferences add column if not exists anonymous boolean default false",
    "alter table preferences add column if not exists proven boolean default true",
    "alter table preferences add column if not exists steered boolean default false",
    "alter table preferences add column if not exists line_key bigint",
    "alter table exclusions add column if not exists action varchar default 'exclude'",
)
PEOPLES = f"source not in {NOT_PEOPLES}"
STANDS = "sequence not in (select sequence from exclusions where action = 'withdraw')"
"""Not taken back, as far as curation knows."""
COUNTED = f"{PEOPLES} and {STANDS}"
DECIDED = (
    "select sequence, annotator, pair_key, case when first_won then 'a' else 'b' end as vote from preferences "
    f"where first_won is not null and {PEOPLES}"
)
# What people said of pairs that were decided more than once. Kept as votes come: looking for such pairs among all votes
# at every tick would cost more than the tick. A warehouse from before this table gets it filled here.
SECOND_LOOKS = (
    f"create table if not exists second_looks as select * from ({DECIDED}) where pair_key in "
    f"(select pair_key from ({DECIDED}) group by pair_key having count(*) > 1)"
)


def prepare(connection: duckdb.DuckDBPyConnection) -> None:
    """Create what is missing, then shut every way out of the database.

    Raises:
        ArtifactCorrupt: an earlier version of this program made the file, with other columns.
    """
    _rename(connection, *RENAMED)
    connection.execute(SCHEMA)
    for column in ADDED:
        connection.execute(column)
    found = connection.execute("select column_name from duckdb_columns() where table_name = 'preferences'").fetchall()
    if {name for (name,) in found} != {"sequence", *VOTE_COLUMNS.names}:
        raise ArtifactCorrupt(
            "The warehouse has the columns of an earlier version of this program. Run `dpo rebuild`: it is then built "
            "again from the log."
        )
    connection.execute(SECOND_LOOKS)
    # A backfill is many large transactions: one checkpoint at the end costs less than one after each.
    connection.execute("set wal_autocheckpoint='1GB'")
    connection.execute("set memory_limit='512MB'")
    connection.execute("set enable_external_access=false")
    connection.execute("set lock_configuration=true")


def _rename(connection: duckdb.DuckDBPyConnection, old: str, new: str) -> None:
    there = {name for (name,) in connection.execute("select table_name from duckdb_tables()").fetchall()}
    if old in there and new not in there:
        connection.execute(f"alter table {old} rename to {new}")


class Connection:
    """An open warehouse: queries that are run to their end, transactions, and the running counts."""

    def __init__(self, connection: duckdb.DuckDBPyConnection):
        self.connection = connection

    def transaction(self) -> "Transaction":
        """All or nothing of what is done inside. One of more than 122,880 votes goes past the write-ahead log."""
        return Transaction(self.connection)

    def tally(self, name: str) -> int:
        rows = self._run("select value from tallies where name = ?", [name])
        return int(rows[0][0]) if rows else 0

    def tallies(self) -> dict[str, int]:
        """Every running count by name."""
        return dict(self._run("select name, value from tallies order by name"))

    def _run(self, query: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Run a query to its end: DuckDB 2 refuses the next one while a result is half read."""
        rows: list[tuple[Any, ...]] = self.connection.execute(query, list(parameters)).fetchall()
        return rows


class Transaction:
    """begin … commit, or rollback on any error."""

    def __init__(self, connection: duckdb.DuckDBPyConnection):
        self.connection = connection

    def __enter__(self) -> None:
        self.connection.begin()

    def __exit__(self, kind: object, *rest: object) -> None:
        if kind is None:
            self.connection.commit()
        else:
            self.connection.rollback()
