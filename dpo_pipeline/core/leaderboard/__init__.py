"""Versions on one scale by votes: `strengths` estimates them, `standings` says what may be shown of them."""

from dpo_pipeline.core.leaderboard.standings import MIN_VOTES, Standings, between_two, scored, standings
from dpo_pipeline.core.leaderboard.strengths import (
    Battle,
    Leaderboard,
    PairCount,
    Strength,
    WinMatrix,
    bootstrap_intervals,
    bradley_terry,
    count_battles,
    percentile_interval,
    win_matrix,
)

__all__ = [
    "MIN_VOTES",
    "Battle",
    "Leaderboard",
    "PairCount",
    "Standings",
    "Strength",
    "WinMatrix",
    "between_two",
    "bootstrap_intervals",
    "bradley_terry",
    "count_battles",
    "percentile_interval",
    "scored",
    "standings",
    "win_matrix",
]
