"""The tables of logs in a database: a row a line, in the order of copying, and how often a log was rewritten."""

from collections.abc import Sequence
from contextlib import closing

import msgspec
import sqlalchemy as sa

from dpo_pipeline.stores.database import create_once, insert

METADATA = sa.MetaData()
LINES = sa.Table(
    "log_lines",
    METADATA,
    sa.Column("written_by", sa.BigInteger, server_default=sa.text("(pg_current_xact_id()::text)::bigint")),
    sa.Column("number", sa.BigInteger, sa.Identity(), nullable=False),
    sa.Column("log", sa.Text, nullable=False),
    sa.Column("key", sa.Text),
    sa.Column("line", sa.LargeBinary, nullable=False),
    sa.PrimaryKeyConstraint("written_by", "number"),
    sa.Index("log_lines_key", "log", "key", unique=True),
    sa.Index("log_lines_of", "log", "written_by", "number"),
)
"""`written_by` is the transaction; `log` the path of the file in a data folder; of a `key` each log has one line."""
REWRITES = sa.Table(
    "log_rewrites",
    METADATA,
    sa.Column("log", sa.Text, primary_key=True),
    sa.Column("count", sa.BigInteger, nullable=False),
)
"""How often lines that stood in a log were changed or removed. Copies made before are made again."""
SETTLED = sa.text("written_by < (pg_snapshot_xmin(pg_current_snapshot())::text)::bigint")
"""Older than the oldest transaction that is under way: all of those are over, and what they wrote is all there."""
PLACE = sa.tuple_(LINES.c.written_by, LINES.c.number)
INSERT = sa.text(
    "insert into log_lines (log, key, line) select :log, key, line "
    "from unnest(cast(:keys as text[]), cast(:lines as bytea[])) with ordinality as given (key, line, place) "
    "order by place on conflict (log, key) do nothing returning key"
)
LogLine = sa.Row[int, int, str, bytes]


def prepare(engine: sa.Engine) -> None:
    """Create the tables where they are missing.

    Raises:
        DatabaseUnavailable
    """
    create_once(engine, METADATA)


class _Ids(msgspec.Struct):
    review_id: str = ""
    event_id: str = ""
    request_id: str = ""


_ids = msgspec.json.Decoder(_Ids)


def key_of(line: bytes) -> str | None:
    """By what a line that is sent again is known; null where a log may hold the same twice."""
    try:
        ids = _ids.decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    return ids.review_id or ids.event_id or ids.request_id or None


def lines_under(connection: sa.Connection, log: str, keys: Sequence[str]) -> dict[str, bytes]:
    query = sa.select(LINES.c.key, LINES.c.line).where(LINES.c.log == log, LINES.c.key.in_(keys))
    return {key: bytes(line) for key, line in connection.execute(query)}


def ordered_lines() -> sa.Select[int, int, str, bytes]:
    columns = (LINES.c.written_by, LINES.c.number, LINES.c.log, LINES.c.line)
    return sa.select(*columns).order_by(LINES.c.written_by, LINES.c.number)


def rows_of(connection: sa.Connection, query: sa.Select[int, int, str, bytes]) -> list[LogLine]:
    """The same rows in half the time: by default lines come as text, two digits a byte."""
    compiled = query.compile(dialect=connection.dialect, compile_kwargs={"render_postcompile": True})
    with closing(connection.connection.cursor(binary=True)) as cursor:
        cursor.execute(str(compiled), compiled.params)
        return list(cursor.fetchall())


def count_rewrite(connection: sa.Connection, log: str) -> None:
    counted = insert(REWRITES).values(log=log, count=1)
    again = {"count": REWRITES.c.count + 1}
    connection.execute(counted.on_conflict_do_update(index_elements=[REWRITES.c.log], set_=again))
