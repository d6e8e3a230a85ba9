"""What people said, counted: of two versions, of a week, of pairs that were decided more than once."""

from collections.abc import Collection
from dataclasses import dataclass

from dpo_pipeline.core.curation import WithdrawnVote
from dpo_pipeline.core.identity import Uncounted
from dpo_pipeline.core.votes import Vote, outcome_for
from dpo_pipeline.core.winrate import Outcome
from dpo_pipeline.stores.warehouse.schema import COUNTED, PEOPLES, STANDS, Connection

BETWEEN_TWO = (
    "from preferences where (model_a, model_b) in ((?, ?), (?, ?)) and vote <> 'both_bad' "
    f"and {COUNTED} and not steered and (proven or ?) order by sequence"
)
"""What counts as evidence between two versions; `between` gives its parameters."""


@dataclass(frozen=True)
class VotesOfWeek:
    """Votes by category and by kind; `failed` is the mean number of criteria that decided votes fail, null without."""

    categories: dict[str, int]
    votes: dict[str, int]
    failed: float | None


class VoteCounts(Connection):
    """Each query costs what its rows cost."""

    def head_to_head(self, new: str, baseline: str, count_unproven: bool = False) -> list[tuple[str, Outcome]]:
        """(annotator, outcome for `new`) of what people said of two versions, in log order, as far as it is evidence.

        Left out are both_bad, votes of people who named the versions, and of those whom nobody vouches for.
        """
        rows = self._run(f"select annotator, vote, model_a {BETWEEN_TWO}", between(new, baseline, count_unproven))
        return [(annotator, outcome_for(vote, new == model_a)) for annotator, vote, model_a in rows]

    def unproven(self, new: str, baseline: str, since: str) -> list[tuple[str, Outcome]]:
        """The same of those whom nobody vouches for, recorded at or after `since` (RFC 3339, UTC)."""
        rows = self._run(
            "select annotator, vote, model_a from preferences where (model_a, model_b) in ((?, ?), (?, ?)) "
            f"and vote <> 'both_bad' and {COUNTED} and not proven and not steered and recorded_at >= ? "
            "order by sequence",
            [new, baseline, baseline, new, since],
        )
        return [(annotator, outcome_for(vote, new == model_a)) for annotator, vote, model_a in rows]

    def uncounted(self, new: str, baseline: str, count_unproven: bool) -> Uncounted:
        """How many votes between the two are no evidence, and why."""
        between_them = "(model_a, model_b) in ((?, ?), (?, ?)) and vote <> 'both_bad'"
        names = [new, baseline, baseline, new]
        [(strangers, steered)] = self._run(
            "select count(*) filter (not steered and not proven and not ?), count(*) filter (steered) "
            f"from preferences where {between_them} and {COUNTED}",
            [count_unproven, *names],
        )
        [(withdrawn, for_new)] = self._run(
            "select count(*), count(*) filter ((vote = 'a' and model_a = ?) or (vote = 'b' and model_b = ?)) "
            f"from preferences join exclusions using (sequence) where action = 'withdraw' and {between_them}",
            [new, new, *names],
        )
        return Uncounted(strangers, steered, withdrawn, for_new)

    def withdrawn_votes(self) -> list[WithdrawnVote]:
        """People's votes that were taken back, as far as curation knows."""
        rows = self._run(
            "select vote, category, vote = left_side from preferences join exclusions using (sequence) "
            f"where action = 'withdraw' and {PEOPLES}"
        )
        return [WithdrawnVote(*row) for row in rows]

    def second_looks(self) -> tuple[list[tuple[Vote, Vote]], list[list[str]]]:
        """What people said of pairs that were decided more than once, as `a` for the answer that sorts first.

        Returns:
            First and second vote of one person on the same pair; and of each pair that several people decided, the
            first vote of each.
        """
        twice = self._run(
            f"select list(vote order by sequence)[:2] from second_looks where {STANDS} group by annotator, pair_key "
            "having count(*) > 1"
        )
        several = self._run(
            "with firsts as (select pair_key, arg_min(vote, sequence) as vote from second_looks "
            f"where {STANDS} group by annotator, pair_key) select list(vote) from firsts group by pair_key "
            "having count(*) > 1"
        )
        return [(first, second) for [(first, second)] in twice], [votes for [votes] in several]

    def battles(self, votes_per_person: int) -> list[tuple[str, str, int, int, int, int]]:
        """(model_a, model_b, wins_a, wins_b, ties, both_bad) of two versions, names in order, people's votes only.

        Of one person the first `votes_per_person` on the same two count.
        """
        return self._run(
            "with met as (select least(model_a, model_b) as one, greatest(model_a, model_b) as other, annotator, "
            "sequence, "
            "case when vote not in ('a', 'b') then vote "
            "when (vote = 'a') = (model_a <= model_b) then 'one' else 'other' end as won "
            f"from preferences where model_a <> model_b and {COUNTED}), "
            "capped as (select * from met qualify row_number() over "
            "(partition by one, other, annotator order by sequence) <= ?) "
            "select one, other, count(*) filter (won = 'one'), count(*) filter (won = 'other'), "
            "count(*) filter (won = 'tie'), count(*) filter (won = 'both_bad') from capped group by all order by all",
            [votes_per_person],
        )

    def simulated_votes(self) -> int:
        return int(self._run(f"select count(*) from preferences where source = 'simulated' and {COUNTED}")[0][0])

    def week(self, since: str, until: str) -> VotesOfWeek:
        """People's votes recorded at or after `since` and before `until` (RFC 3339, UTC)."""
        chosen = f"from preferences where recorded_at >= ? and recorded_at < ? and {COUNTED}"
        categories = self._run(f"select category, count(*) {chosen} group by category", [since, until])
        votes = self._run(f"select vote, count(*) {chosen} group by vote", [since, until])
        [(failed,)] = self._run(
            f"select avg(len(failed)) from (select sequence {chosen} and first_won is not null) "
            "join validations using (sequence)",
            [since, until],
        )
        return VotesOfWeek(dict(categories), dict(votes), failed)

    def valid_places_without(self, event_ids: Collection[str]) -> list[int]:
        """Which of the valid pairs, counted from 0 in log order, are of none of these events."""
        rows = self._run(
            "select event_id from preferences join validations using (sequence) where valid order by sequence"
        )
        return [place for place, (event_id,) in enumerate(rows) if event_id not in event_ids]

    def first_vote(self, since: str = "") -> str | None:
        """When the first vote of a person at or after `since` (RFC 3339, UTC) was recorded; null before it."""
        rows = self._run(
            f"select min(recorded_at) from preferences where recorded_at >= ? and {COUNTED}",
            [since],
        )
        return None if rows[0][0] is None else str(rows[0][0])


def between(new: str, baseline: str, count_unproven: bool = False) -> list[str | bool]:
    return [new, baseline, baseline, new, count_unproven]
