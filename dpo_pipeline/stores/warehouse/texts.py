"""The votes themselves, out of the log, and the pairs that are trained on; the tables know where each one stands."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb

from dpo_pipeline.core.controlled_winrate import SidedComparison
from dpo_pipeline.core.curation import TakenOut
from dpo_pipeline.core.dataset import Pair
from dpo_pipeline.core.validated_pair import TAKEN_OUT
from dpo_pipeline.core.votes import Preference, decode_preference, line_key, outcome_for
from dpo_pipeline.errors import LogReplaced
from dpo_pipeline.stores.log_reading import read_places
from dpo_pipeline.stores.warehouse.counts import BETWEEN_TWO, VoteCounts, between
from dpo_pipeline.stores.warehouse.schema import PEOPLES

VALID = (
    "select *, row_number() over (order by sequence) as place from preferences join validations using (sequence) "
    "where valid"
)
"""Valid pairs, each with its place among them, in log order and counted from 1."""
Place = tuple[str, int, int]
"""Event id, offset and length of a vote's line: the columns event_id, log_offset and line_bytes."""


@dataclass(frozen=True)
class ComparedLines:
    """`unknown`: lines that were read before it was kept how they were; `changed`: event ids of those that differ."""

    compared: int
    unknown: int
    changed: list[str]


class VoteTexts(VoteCounts):
    """`log` is the preference log, where the texts are."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, log: Path):
        super().__init__(connection)
        self.log = log

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


def _sided(event: Preference, model: str) -> SidedComparison:
    is_a, lengths = event.model_a == model, (len(event.response_a), len(event.response_b))
    length, other = lengths if is_a else reversed(lengths)
    return SidedComparison(event.annotator, outcome_for(event.vote, is_a), (event.left == "a") == is_a, length, other)
