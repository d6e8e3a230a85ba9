"""DuckDB: what the log says, judged. Incremental; deleted, it is rebuilt from the log with the same result.

Only Dagster opens the file, one run at a time; everybody else reads the summary that
`publish_summary` puts beside it. Every query costs what the new rows cost, not what all rows cost.
"""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import duckdb
import msgspec
import pyarrow as pa

from dpo_pipeline.core.dataset import Pair
from dpo_pipeline.core.quality import Memory, Verdict
from dpo_pipeline.core.votes import Message, Preference, event_key, pair_key
from dpo_pipeline.core.winrate import Outcome
from dpo_pipeline.stores.log import Position

SCHEMA = """
create table if not exists preferences (
    sequence bigint, event_key bigint, event_id varchar, recorded_at varchar, comparison_id varchar,
    session_id varchar, prompt varchar, prompt_is_messages boolean, category varchar,
    model_a varchar, model_b varchar, response_a varchar, response_b varchar, vote varchar,
    chosen varchar, rejected varchar, left_side varchar, annotator varchar, source varchar,
    sampling varchar, propensity double, pair_key bigint
);
create table if not exists verdicts (sequence bigint, valid boolean, failed varchar[]);
create table if not exists quarantine (log_offset bigint, length bigint, reason varchar, head varchar);
create table if not exists tallies (name varchar primary key, value bigint);
create table if not exists holdings (annotator varchar primary key, valid bigint);
create table if not exists log_position (log varchar primary key, position varchar);
"""
_COLUMNS = [
    "sequence",
    "event_key",
    "event_id",
    "recorded_at",
    "comparison_id",
    "session_id",
    "prompt",
    "prompt_is_messages",
    "category",
    "model_a",
    "model_b",
    "response_a",
    "response_b",
    "vote",
    "chosen",
    "rejected",
    "left_side",
    "annotator",
    "source",
    "sampling",
    "propensity",
    "pair_key",
]


@dataclass(frozen=True)
class Quarantined:
    """A line that is no event: where it stands in the log and why. `head` is its beginning, as text."""

    offset: int
    length: int
    reason: str
    head: str


def prepare(connection: duckdb.DuckDBPyConnection) -> None:
    """Create what is missing, then shut every way out of the database."""
    connection.execute(SCHEMA)
    connection.execute("set enable_external_access=false")
    connection.execute("set lock_configuration=true")


class Warehouse:
    """What the loop asks of an open connection."""

    def __init__(self, connection: duckdb.DuckDBPyConnection):
        self.connection = connection

    def position(self, log: str) -> Position:
        """How far this log was read."""
        rows = self._run("select position from log_position where log = ?", [log])
        return Position(**json.loads(rows[0][0])) if rows else Position()

    def add_preferences(
        self, log: str, preferences: Sequence[Preference], quarantined: Sequence[Quarantined], end: Position
    ) -> int:
        """One batch and the position behind it, in one transaction. Returns how many were repeats of an event id."""
        with _Transaction(self.connection):
            fresh = self._without_known(preferences)
            if fresh:
                start = self.tally("recorded")
                self._insert("preferences", _preference_table(fresh, start))
            if quarantined:
                self._insert("quarantine", pa.Table.from_pylist([_quarantine_row(item) for item in quarantined]))
            repeats = len(preferences) - len(fresh)
            self._count({"recorded": len(fresh), "quarantined": len(quarantined), "repeated_events": repeats})
            self._count(Counter(f"category:{preference.category}" for preference in fresh))
            self._count(Counter(f"vote:{preference.vote}" for preference in fresh))
            self._count({"left_wins": sum(preference.vote == preference.left for preference in fresh)})
            self._run("insert or replace into log_position values (?, ?)", [log, json.dumps(msgspec.to_builtins(end))])
        return repeats

    def unjudged(self, limit: int) -> list[tuple[int, Preference]]:
        """The next preferences without a verdict, in log order, with their sequence numbers."""
        judged = self.tally("judged")
        rows = self._run(
            f"select {', '.join(_COLUMNS)} from preferences where sequence >= ? order by sequence limit ?",
            [judged, limit],
        )
        return [(row[0], _preference(row)) for row in rows]

    def memory_for(self, preferences: Sequence[Preference]) -> Memory:
        """What earlier, judged votes say about the pairs and people of this batch."""
        keys = sorted({pair_key(preference) for preference in preferences})
        batch = pa.table({"pair_key": pa.array(keys, pa.int64())})
        self.connection.register("batch_pairs", batch)
        try:
            rows = self._run(
                "select annotator, p.pair_key, chosen from preferences p join batch_pairs using (pair_key) "
                "where sequence < ? and chosen is not null order by sequence desc",
                [self.tally("judged")],
            )
        finally:
            self.connection.unregister("batch_pairs")
        held = Counter(dict(self._run("select annotator, valid from holdings")))
        # Newest first, so that the earliest vote is written last and stays.
        return Memory({(row[0], row[1]): row[2] for row in rows}, held, self.tally("valid"))

    def add_verdicts(self, judged: Sequence[tuple[int, Preference, Verdict]]) -> None:
        """Verdicts of one batch, and the running counts, in one transaction."""
        valid = [preference for _, preference, verdict in judged if verdict.valid]
        with _Transaction(self.connection):
            self._insert(
                "verdicts",
                pa.table(
                    {
                        "sequence": pa.array([sequence for sequence, _, _ in judged], pa.int64()),
                        "valid": [verdict.valid for _, _, verdict in judged],
                        "failed": pa.array([list(verdict.failed) for _, _, verdict in judged], pa.list_(pa.string())),
                    }
                ),
            )
            self._count({"judged": len(judged), "valid": len(valid), "rejected": len(judged) - len(valid)})
            self._count(Counter(f"failed:{name}" for _, _, verdict in judged for name in verdict.failed))
            self._count(Counter(f"valid_category:{preference.category}" for preference in valid))
            for annotator, count in Counter(preference.annotator for preference in valid).items():
                self._run(
                    "insert into holdings values (?, ?) on conflict do update set valid = valid + excluded.valid",
                    [annotator, count],
                )

    def valid_pairs(self, after: int = 0, up_to: int | None = None) -> list[Pair]:
        """Valid pairs in log order.

        Args:
            after, up_to: positions in the order of valid pairs, to pick those new since a version.
        """
        rows = self._run(
            "select event_id, prompt, prompt_is_messages, chosen, rejected, category, source from preferences "
            "join verdicts using (sequence) where valid order by sequence limit ? offset ?",
            [(up_to - after) if up_to is not None else 2**60, after],
        )
        return [
            Pair(
                event_id=row[0],
                prompt=_prompt(row[1], row[2]),
                chosen=row[3],
                rejected=row[4],
                category=row[5],
                source=row[6],
            )
            for row in rows
        ]

    def head_to_head(self, new: str, baseline: str) -> list[tuple[str, Outcome]]:
        """(annotator, outcome for `new`) of every vote between two versions, in log order; both_bad is left out."""
        rows = self._run(
            "select annotator, vote, model_a from preferences where (model_a, model_b) in ((?, ?), (?, ?)) "
            "and vote <> 'both_bad' order by sequence",
            [new, baseline, baseline, new],
        )
        outcomes: list[tuple[str, Outcome]] = []
        for annotator, vote, model_a in rows:
            won = (vote == "a") == (model_a == new)
            outcomes.append((annotator, "tie" if vote == "tie" else "win" if won else "loss"))
        return outcomes

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

    def _without_known(self, preferences: Sequence[Preference]) -> list[Preference]:
        """Those whose event id is new, here and within the batch."""
        first: dict[str, Preference] = {}
        for preference in preferences:
            first.setdefault(preference.event_id, preference)
        keys = pa.table({"event_key": pa.array([event_key(event_id) for event_id in first], pa.int64())})
        self.connection.register("batch_events", keys)
        try:
            known = {
                row[0] for row in self._run("select event_id from preferences join batch_events using (event_key)")
            }
        finally:
            self.connection.unregister("batch_events")
        return [preference for event_id, preference in first.items() if event_id not in known]

    def _insert(self, table: str, rows: pa.Table) -> None:
        self.connection.register("incoming", rows)
        try:
            self._run(f"insert into {table} by name select * from incoming")
        finally:
            self.connection.unregister("incoming")

    def _count(self, counts: dict[str, int] | Counter[str]) -> None:
        for name, count in counts.items():
            if count:
                self._run(
                    "insert into tallies values (?, ?) on conflict do update set value = value + excluded.value",
                    [name, count],
                )


class _Transaction:
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


def _preference_table(preferences: Iterable[Preference], start: int) -> pa.Table:
    """Columns in the order of `_COLUMNS`."""
    rows = [_row(start + index, preference) for index, preference in enumerate(preferences)]
    columns = list(zip(*rows, strict=True))
    return pa.table(
        {name: pa.array(values) for name, values in zip(_COLUMNS, columns, strict=True)},
    )


def _row(sequence: int, p: Preference) -> tuple[Any, ...]:
    is_messages = not isinstance(p.prompt, str)
    prompt = msgspec.json.encode(p.prompt).decode() if is_messages else p.prompt
    return (
        sequence, event_key(p.event_id), p.event_id, p.recorded_at, p.comparison_id, p.session_id, prompt, is_messages,
        p.category, p.model_a, p.model_b, p.response_a, p.response_b, p.vote, p.chosen, p.rejected, p.left, p.annotator,
        p.source, msgspec.json.encode(p.sampling).decode(), p.propensity, pair_key(p),
    )  # fmt: skip


def _preference(row: Sequence[Any]) -> Preference:
    """The inverse of `_row`."""
    values = dict(zip(_COLUMNS, row, strict=True))
    a_won = values["vote"] == "a"
    won = values["vote"] in ("a", "b")
    first, second = (values["model_a"], values["model_b"]) if a_won else (values["model_b"], values["model_a"])
    return Preference(
        event_id=values["event_id"],
        recorded_at=values["recorded_at"],
        comparison_id=values["comparison_id"],
        session_id=values["session_id"],
        prompt=_prompt(values["prompt"], values["prompt_is_messages"]),
        category=values["category"],
        model_a=values["model_a"],
        model_b=values["model_b"],
        response_a=values["response_a"],
        response_b=values["response_b"],
        vote=values["vote"],
        chosen=values["chosen"],
        rejected=values["rejected"],
        chosen_model=first if won else None,
        rejected_model=second if won else None,
        left=values["left_side"],
        annotator=values["annotator"],
        source=values["source"],
        propensity=values["propensity"],
    )


def _prompt(stored: str, is_messages: bool) -> str | list[Message]:
    return msgspec.json.decode(stored, type=list[Message]) if is_messages else stored


def _quarantine_row(item: Quarantined) -> dict[str, Any]:
    return {"log_offset": item.offset, "length": item.length, "reason": item.reason, "head": item.head}
