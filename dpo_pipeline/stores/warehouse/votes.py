"""Votes as rows, and their validation."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import msgspec
import pyarrow as pa

from dpo_pipeline.core.quality import ValidationHistory, VoteFeatures
from dpo_pipeline.core.votes import NOT_PEOPLES
from dpo_pipeline.stores.decode import Piece, Quarantined
from dpo_pipeline.stores.log_reading import Position
from dpo_pipeline.stores.warehouse.schema import DECIDED
from dpo_pipeline.stores.warehouse.texts import VoteTexts


@dataclass(frozen=True)
class Cases:
    """Votes that wait for validation, in log order, a list a column; `criteria_keys` tell how a ballot was made."""

    sequences: list[int]
    categories: list[str]
    criteria_keys: list[int]
    ballots: list[VoteFeatures]


class Warehouse(VoteTexts):
    """What the loop asks of an open connection."""

    def position(self, log: str) -> Position:
        """How far this log was read."""
        rows = self._run("select position from log_position where log = ?", [log])
        return Position(**json.loads(rows[0][0])) if rows else Position()

    def add_preferences(self, log: str, piece: Piece) -> int:
        """One piece of the log and the position behind it, inside a `transaction`.

        Returns:
            How many of its votes repeat an event id.
        """
        votes = self._without_known(piece.votes)
        fresh, start = len(votes), self.tally("recorded")
        if fresh:
            self._insert("preferences", votes.append_column("sequence", pa.array(range(start, start + fresh))))
            self._note_second_looks(start)
        if piece.bad:
            self._insert("quarantine", pa.Table.from_pylist([_quarantine_row(item) for item in piece.bad]))
        repeats = len(piece.votes) - fresh
        counts = {"recorded": fresh, "quarantined": len(piece.bad), "repeated_events": repeats}
        peoples = votes.filter(pa.array([each not in NOT_PEOPLES for each in votes["source"].to_pylist()], pa.bool_()))
        counts["left_wins"] = _left_wins(peoples)
        self._count({**counts, **_counts("category", peoples), **_counts("vote", peoples)})
        position = json.dumps(msgspec.to_builtins(piece.end))
        self._run("insert or replace into log_position values (?, ?)", [log, position])
        return repeats

    def unvalidated(self, limit: int) -> Cases:
        """The next votes without a validation result."""
        judged = self.tally("judged")
        rows = self.connection.sql(
            "select sequence, category, criteria_key, annotator, source, pair_key, first_won, failed_alone, anonymous "
            "from preferences where sequence >= ? and sequence < ? order by sequence",
            params=[judged, judged + limit],
        ).to_arrow_table()
        sequences, categories, criteria_keys, *ballots, failed, anonymous = (each.to_pylist() for each in rows.columns)
        features = list(map(VoteFeatures, *ballots, map(_names, failed), anonymous))
        return Cases(sequences, categories, criteria_keys, features)

    def history_for(self, cases: Cases) -> ValidationHistory:
        """What earlier, validated votes say about these pairs, and how many valid pairs each person holds."""
        pairs = pa.table({"pair_key": pa.array([ballot.pair for ballot in cases.ballots], pa.int64())})
        self.connection.register("batch_pairs", pairs)
        try:
            rows = self._run(
                "select annotator, pair_key, first_won from preferences semi join batch_pairs using (pair_key) "
                "where sequence < ? order by sequence desc",
                [self.tally("judged")],
            )
        finally:
            self.connection.unregister("batch_pairs")
        held = Counter(dict(self._run("select annotator, valid from holdings")))
        # Newest first, so that the earliest vote is written last and stays.
        winners = {(row[0], row[1]): row[2] for row in rows}
        return ValidationHistory(winners, held, self.tally("valid"), self.tally("valid_anonymous"))

    def add_validation_results(self, cases: Cases, failed: Sequence[tuple[str, ...]]) -> None:
        """The criteria that each case failed, and the running counts, in one transaction."""
        table = {
            "sequence": pa.array(cases.sequences, pa.int64()),
            "valid": pa.array([not names for names in failed], pa.bool_()),
            "failed": pa.array(failed, pa.list_(pa.string())),
        }
        valid = [index for index, names in enumerate(failed) if not names]
        counts = Counter(f"failed:{name}" for names in failed for name in names)
        counts.update(f"valid_category:{cases.categories[index]}" for index in valid)
        counts["valid_anonymous"] = sum(cases.ballots[index].anonymous for index in valid)
        counts.update({"judged": len(failed), "valid": len(valid), "rejected": len(failed) - len(valid)})
        with self.transaction():
            self._insert("validations", pa.table(table))
            self._count(counts)
            self._add("holdings", "annotator", "valid", Counter(cases.ballots[index].annotator for index in valid))

    def _note_second_looks(self, start: int) -> None:
        """Add the votes on pairs that became decided more than once with the votes from `start` on."""
        self._run(
            f"insert into second_looks with met as (select * from ({DECIDED}) semi join "
            f"(select pair_key from ({DECIDED}) where sequence >= ?) using (pair_key)) "
            "select * from met where pair_key in (select pair_key from met group by pair_key having count(*) > 1) "
            "and sequence not in (select sequence from second_looks)",
            [start],
        )

    def _without_known(self, votes: pa.Table) -> pa.Table:
        """Those whose event id is new, here and within the piece."""
        self.connection.register("batch_events", votes.select(["event_key"]))
        try:
            known = {
                row[0] for row in self._run("select event_id from preferences semi join batch_events using (event_key)")
            }
        finally:
            self.connection.unregister("batch_events")
        fresh = []
        for event_id in votes["event_id"].to_pylist():
            fresh.append(event_id not in known)
            known.add(event_id)
        return votes if all(fresh) else votes.filter(pa.array(fresh, pa.bool_()))

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


@cache
def _names(failed: str) -> tuple[str, ...]:
    return tuple(failed.split())


def _left_wins(votes: pa.Table) -> int:
    return sum(
        vote == left for vote, left in zip(votes["vote"].to_pylist(), votes["left_side"].to_pylist(), strict=True)
    )


def _counts(column: str, votes: pa.Table) -> dict[str, int]:
    return {f"{column}:{row['values']}": row["counts"] for row in votes[column].value_counts().to_pylist()}


def _quarantine_row(item: Quarantined) -> dict[str, Any]:
    return {"log_offset": item.offset, "length": item.length, "reason": item.reason, "head": item.head}
