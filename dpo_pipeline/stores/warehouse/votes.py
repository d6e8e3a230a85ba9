"""Votes as rows, their validation, and the pairs that are trained on."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import duckdb
import msgspec
import pyarrow as pa

from dpo_pipeline.core.controlled_winrate import SidedComparison
from dpo_pipeline.core.curation import TakenOut
from dpo_pipeline.core.dataset import Pair
from dpo_pipeline.core.quality import ValidationHistory, VoteFeatures
from dpo_pipeline.core.validated_pair import TAKEN_OUT
from dpo_pipeline.core.votes import NOT_PEOPLES, Preference, decode_preference, line_key, outcome_for
from dpo_pipeline.errors import LogReplaced
from dpo_pipeline.stores.decode import Piece, Quarantined
from dpo_pipeline.stores.log import Position, read_places
from dpo_pipeline.stores.warehouse.counts import BETWEEN_TWO, VoteCounts, between
from dpo_pipeline.stores.warehouse.schema import DECIDED, PEOPLES

VALID = (
    "select *, row_number() over (order by sequence) as place from preferences join validations using (sequence) "
    "where valid"
)
"""Valid pairs, each with its place among them, in log order and counted from 1."""
Place = tuple[str, int, int]
"""Event id, offset and length of a vote's line: the columns event_id, log_offset and line_bytes."""


@dataclass(frozen=True)
class Cases:
    """Votes that wait for validation, in log order, a list a column; `criteria_keys` tell how a ballot was made."""

    sequences: list[int]
    categories: list[str]
    criteria_keys: list[int]
    ballots: list[VoteFeatures]


@dataclass(frozen=True)
class ComparedLines:
    """`unknown`: lines that were read before it was kept how they were; `changed`: event ids of those that differ."""

    compared: int
    unknown: int
    changed: list[str]


class Warehouse(VoteCounts):
    """What the loop asks of an open connection; `log` is the preference log, where the texts are."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, log: Path):
        super().__init__(connection)
        self.log = log

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

    def texts(self, first: int, last: int) -> dict[int, tuple[str, str]]:
        """Chosen and rejected text of the votes between two sequence numbers that somebody won."""
        rows = self._run(
            "select sequence, event_id, log_offset, line_bytes from preferences "
            "where sequence between ? and ? and first_won is not null order by sequence",
            [first, last],
        )
        events = self.events([row[1:] for row in rows])
        return {row[0]: (str(event.chosen), str(event.rejected)) for row, event in zip(rows, events, strict=True)}

    def events(self, places: Sequence[Place]) -> Iterator[Preference]:
        """The votes themselves, out of the log.

        Raises:
            LogReplaced: another line stands at the place of one.
        """
        if not places:
            return
        lines = read_places(self.log, ((offset, length) for _, offset, length in places))
        for (event_id, offset, _), line in zip(places, lines, strict=True):
            event = decode_preference(line)
            if event.event_id != event_id:
                raise LogReplaced(
                    f"{self.log}, byte {offset}: event {event.event_id!r} found, {event_id!r} was read there before. "
                    "Put the file back as it was, or, if the change was meant, run `dpo rebuild`."
                )
            yield event

    def changed_lines(self) -> ComparedLines:
        """The lines of the log as they stand, against how they were read.

        Raises:
            LogReplaced: the log is shorter than it was, or gone.
        """
        [(unknown,)] = self._run("select count(*) from preferences where line_key is null")
        rows = self._run(
            "select event_id, log_offset, line_bytes, line_key from preferences where line_key is not null "
            "order by log_offset"
        )
        if not rows:
            return ComparedLines(0, unknown, [])
        if not self.log.exists():
            raise LogReplaced(
                f"{self.log} is gone, and {len(rows)} lines of it were read. Bring it back from a backup."
            )
        lines = read_places(self.log, ((offset, length) for _, offset, length, _ in rows))
        changed = [row[0] for row, line in zip(rows, lines, strict=True) if line_key(line) != row[3]]
        return ComparedLines(len(rows), unknown, changed)

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

    def valid_pairs(self, after: int = 0, up_to: int | None = None) -> list[Pair]:
        """Valid pairs in log order, without those that were excluded or set aside.

        Args:
            after, up_to: positions in the order of valid pairs, to pick those new since a version. A pair taken out
                keeps its position, so that no version skips one or sees one twice.
        """
        rows = self._run(
            "select event_id, log_offset, line_bytes from ("
            "select * from preferences join validations using (sequence) where valid order by sequence limit ? offset ?"
            ") anti join exclusions using (sequence) order by sequence",
            [(up_to - after) if up_to is not None else 2**60, after],
        )
        return [
            Pair(
                event_id=event.event_id,
                prompt=event.prompt,
                chosen=str(event.chosen),
                rejected=str(event.rejected),
                category=event.category,
                source=event.source,
            )
            for event in self.events(rows)
        ]

    def valid_events_of(self, version: str, after: int, up_to: int, behind: int) -> list[str]:
        """Event ids, in log order, of valid pairs that the version answered, or whose place is in (after, up_to]; of
        both only those behind a place.
        """
        rows = self._run(
            f"select event_id from ({VALID}) where place > ? and (model_a = ? or model_b = ? or "
            "(place > ? and place <= ?)) order by sequence",
            [behind, version, version, after, up_to],
        )
        return [event_id for (event_id,) in rows]

    def taken_out(self) -> TakenOut:
        """Valid pairs that are not trained on all the same."""
        if not self._run("select 1 from exclusions limit 1"):
            return TakenOut()
        query = f"select place, category, action from ({VALID}) join exclusions using (sequence) order by place"
        rows = self._run(query)
        categories: dict[str, Counter[str]] = {}
        for _, category, action in rows:
            categories.setdefault(TAKEN_OUT[action], Counter())[category] += 1
        return TakenOut(categories, tuple(place for place, _, _ in rows))

    def set_aside_between(self, after: int, up_to: int) -> int:
        """How many valid pairs with a place in (after, up_to] a rollback put in question."""
        query = f"select count(*) from ({VALID}) join exclusions using (sequence) where action = 'set_aside' "
        return int(self._run(query + "and place > ? and place <= ?", [after, up_to])[0][0])

    def both_bad(self) -> list[tuple[int, Preference]]:
        """People's votes that both answers were bad, each with its sequence, without those that a person excluded."""
        rows = self._run(
            "select event_id, log_offset, line_bytes, sequence from preferences anti join exclusions using (sequence) "
            f"where vote = 'both_bad' and {PEOPLES} order by sequence"
        )
        events = self.events([row[:3] for row in rows])
        return [(row[3], event) for row, event in zip(rows, events, strict=True)]

    def sided_comparisons(self, new: str, baseline: str, count_unproven: bool = False) -> list[SidedComparison]:
        """The same votes with the side and the lengths in characters of what people saw, which the log knows."""
        rows = self._run(
            f"select event_id, log_offset, line_bytes {BETWEEN_TWO}", between(new, baseline, count_unproven)
        )
        return [_sided(event, new) for event in self.events(rows)]

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


def _sided(event: Preference, model: str) -> SidedComparison:
    is_a, lengths = event.model_a == model, (len(event.response_a), len(event.response_b))
    length, other = lengths if is_a else reversed(lengths)
    return SidedComparison(event.annotator, outcome_for(event.vote, is_a), (event.left == "a") == is_a, length, other)


def _left_wins(votes: pa.Table) -> int:
    return sum(
        vote == left for vote, left in zip(votes["vote"].to_pylist(), votes["left_side"].to_pylist(), strict=True)
    )


def _counts(column: str, votes: pa.Table) -> dict[str, int]:
    return {f"{column}:{row['values']}": row["counts"] for row in votes[column].value_counts().to_pylist()}


def _quarantine_row(item: Quarantined) -> dict[str, Any]:
    return {"log_offset": item.offset, "length": item.length, "reason": item.reason, "head": item.head}
