"""Versions on one scale by votes: `strengths` and `style` estimate them, `standings` says what may be shown of them."""

from dpo_pipeline.core.leaderboard.battles import Battle, PairCount, count_battles
from dpo_pipeline.core.leaderboard.standings import (
    MIN_STYLE_VOTES,
    MIN_VOTES,
    Standings,
    at_equal_style,
    between_two,
    scored,
    standings,
)
from dpo_pipeline.core.leaderboard.strengths import (
    Leaderboard,
    VersionStrength,
    WinMatrix,
    bootstrap_intervals,
    bradley_terry,
    percentile_interval,
    win_matrix,
)
from dpo_pipeline.core.leaderboard.style import StyleBoard, StyleLean, lean_of, style_controlled

__all__ = [
    "MIN_STYLE_VOTES",
    "MIN_VOTES",
    "Battle",
    "Leaderboard",
    "PairCount",
    "Standings",
    "StyleBoard",
    "StyleLean",
    "VersionStrength",
    "WinMatrix",
    "at_equal_style",
    "between_two",
    "bootstrap_intervals",
    "bradley_terry",
    "count_battles",
    "lean_of",
    "percentile_interval",
    "scored",
    "standings",
    "style_controlled",
    "win_matrix",
]
