"""Scores of all versions by people's votes, published for whoever reads Parquet."""

from collections.abc import Sequence
from dataclasses import dataclass

from dpo_pipeline.core.leaderboard import PairCount, Standings, scored
from dpo_pipeline.loop.report import battles
from dpo_pipeline.settings import Settings
from dpo_pipeline.stores.tables import publish_rows
from dpo_pipeline.stores.warehouse import Warehouse


@dataclass(frozen=True)
class PublishedLeaderboard:
    """`rows`: score with interval and votes of each version, best first; none where the votes do not place them."""

    standings: Standings
    pairs: Sequence[PairCount]
    rows: list[dict[str, object]]


def publish_leaderboard(settings: Settings, store: Warehouse) -> PublishedLeaderboard:
    """Bradley-Terry scores, of one person so many votes on the same two versions (`rollout.votes_per_person`)."""
    counts = battles(store, settings.rollout.votes_per_person)
    found = scored(counts)
    rows: list[dict[str, object]] = [
        {"version": s.name, "score": round(s.elo[0]), "low": round(s.elo[1]), "high": round(s.elo[2]), "votes": s.votes}
        for s in (found.board.strengths.values() if found.board else ())
    ]
    publish_rows(settings.reports_dir / "leaderboard.parquet", rows)
    return PublishedLeaderboard(found, counts, rows)
