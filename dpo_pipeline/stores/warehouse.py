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
from dpo_pipeline.core.votes import Message, Preference, outcome, pair_key, text_key
from dpo_pipeline.core.winrate import Outcome
from dpo_pipeline.stores.log import Position

SCHEMA = """
create table if not exists preferences (
    sequence bigint, event_key bigint, event_id varchar, recorded_at varchar, comparison_id varchar,
    session_id varchar, prompt varchar, prompt_is_messages boolean, category varchar,
    model_a varchar, model_b varchar, response_a varchar, response_b varchar, vote varchar,
    left_side varchar, annotator varchar, source varchar,
    sampling varchar, propensity double, chosen_key bigint, pair_key bigint
);
create table if not exists verdicts (sequence bigint, valid boolean, failed varchar[]);
create table if not exists quarantine (log_offset bigint, length bigint, reason varchar, head varchar);
create table if not exists tallies (name varchar primary key, value bigint);
create table if not exists holdings (annotator varchar primary key, valid bigint);
create table if not exists log_position (log varchar primary key, position varchar);
"""
_COLUMNS = (
    "sequence", "event_key", "event_id", "recorded_at", "comparison_id", "session_id", "prompt",
    "prompt_is_messages", "category", "model_a", "model_b", "response_a", "response_b", "vote", "left_side",
    "annotator", "source", "sampling", "propensity", "chosen_key", "pair_key",
)  # fmt: skip
# The two texts are stored once; which of them was chosen follows from the vote.
_CHOSEN = "case vote when 'a' then response_a when 'b' then response_b end"
_REJECTED = "case vote when 'a' then response_b when 'b' then response_a end"


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
    # A backfill is many large transactions: one checkpoint at the end costs less than one after each.
    connection.execute("set wal_autocheckpoint='1GB'")
    connection.execute("set memory_limit='1GB'")
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

    def unjudged(self, limit: int) -> list[tuple[int, int, Preference]]:
        """The next preferences without a verdict, in log order, with sequence number and pair key."""
        judged = self.tally("judged")
        rows = self._run(
            f"select {', '.join(_COLUMNS)} from preferences where sequence >= ? and sequence < ? order by sequence",
            [judged, judged + limit],
        )
        return [(row[0], row[-1], _preference(row)) for row in rows]

    def memory_for(self, keys: Iterable[int]) -> Memory:
        """What earlier, judged votes say about these pairs, and how many valid pairs each person holds."""
        keys = sorted(set(keys))
        batch = pa.table({"pair_key": pa.array(keys, pa.int64())})
        self.connection.register("batch_pairs", batch)
        try:
            rows = self._run(
                "select annotator, p.pair_key, chosen_key from preferences p join batch_pairs using (pair_key) "
                "where sequence < ? and chosen_key is not null order by sequence desc",
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
            self._add("holdings", "annotator", "valid", Counter(preference.annotator for preference in valid))

    def valid_pairs(self, after: int = 0, up_to: int | None = None) -> list[Pair]:
        """Valid pairs in log order.

        Args:
            after, up_to: positions in the order of valid pairs, to pick those new since a version.
        """
        rows = self._run(
            f"select event_id, prompt, prompt_is_messages, {_CHOSEN}, {_REJECTED}, category, source from preferences "
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
        keys = pa.table({"event_key": pa.array([text_key(event_id) for event_id in first], pa.int64())})
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
        self._add("tallies", "name", "value", counts)

    def _add(self, table: str, key: str, value: str, counts: dict[str, int] | Counter[str]) -> None:
        """Add counts to a table of counts, in one statement however many they are."""
        wanted = {name: count for name, count in counts.items() if count}
        if not wanted:
            return
        self.connection.register("counts", pa.table({key: list(wanted), value: list(wanted.values())}))
        try:
            self._run(
                f"insert into {table} select * from counts "
                f"on conflict do update set {value} = {value} + excluded.{value}"
            )
        finally:
            self.connection.unregister("counts")


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
        sequence, text_key(p.event_id), p.event_id, p.recorded_at, p.comparison_id, p.session_id, prompt, is_messages,
        p.category, p.model_a, p.model_b, p.response_a, p.response_b, p.vote, p.left, p.annotator,
        p.source, msgspec.json.encode(p.sampling).decode(), p.propensity,
        None if p.chosen is None else text_key(p.chosen), pair_key(p),
    )  # fmt: skip


def _preference(row: Sequence[Any]) -> Preference:
    """The inverse of `_row`; how answers were sampled is left out, because no verdict looks at it."""
    (_, _, event_id, recorded_at, comparison_id, session_id, prompt, is_messages, category, model_a, model_b,
     response_a, response_b, vote, left, annotator, source, _, propensity, _, _) = row  # fmt: skip
    chosen, rejected, chosen_model, rejected_model = outcome(vote, response_a, response_b, model_a, model_b)
    return Preference(
        event_id=event_id,
        recorded_at=recorded_at,
        comparison_id=comparison_id,
        session_id=session_id,
        prompt=_prompt(prompt, is_messages),
        category=category,
        model_a=model_a,
        model_b=model_b,
        response_a=response_a,
        response_b=response_b,
        vote=vote,
        chosen=chosen,
        rejected=rejected,
        chosen_model=chosen_model,
        rejected_model=rejected_model,
        left=left,
        annotator=annotator,
        source=source,
        propensity=propensity,
    )


def _prompt(stored: str, is_messages: bool) -> str | list[Message]:
    return msgspec.json.decode(stored, type=list[Message]) if is_messages else stored


def _quarantine_row(item: Quarantined) -> dict[str, Any]:
    return {"log_offset": item.offset, "length": item.length, "reason": item.reason, "head": item.head}
