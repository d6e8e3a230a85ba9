"""What the leaderboard may say of the votes so far: scores where they mean something, else why not."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dpo_pipeline.core.leaderboard.battles import Battle, PairCount, count_battles
from dpo_pipeline.core.leaderboard.strengths import Leaderboard, WinMatrix, bradley_terry, win_matrix
from dpo_pipeline.core.leaderboard.style import StyleBoard, StyleLean, style_controlled
from dpo_pipeline.errors import DisconnectedModels

MIN_VOTES, MIN_STYLE_VOTES = 10, 100
PRIOR_VOTES = 0.5
"""Keeps a version finite that has won, or lost, every vote so far."""


@dataclass(frozen=True)
class Standings:
    """`board` is null where `trouble` says why there are no scores. `few` names versions below `MIN_VOTES`."""

    pairs: tuple[PairCount, ...]
    matrix: WinMatrix | None
    board: Leaderboard | None
    trouble: str
    few: tuple[str, ...]
    against_itself: int

    @property
    def votes(self) -> int:
        return sum(each.wins_a + each.wins_b + each.ties + each.both_bad for each in self.pairs)


def standings(battles: Mapping[Battle, int]) -> Standings:
    """Scores, win matrix and votes per pair.

    Args:
        battles: how often each (model_a, model_b, winner) was voted; two samples of one version are left out.
    """
    between = between_two(battles)
    return scored(count_battles(between), sum(battles.values()) - sum(between.values()))


def at_equal_style(found: Standings, battles: Mapping[tuple[Battle, StyleLean], int]) -> StyleBoard | None:
    """The scores once length and formatting may not speak; null where there are none at all, or fewer than
    `MIN_STYLE_VOTES` votes: style would be told from so few by chance.

    Args:
        battles: the same votes, with what the first answer had more of.
    """
    if found.board is None or found.board.votes < MIN_STYLE_VOTES:
        return None
    return style_controlled(battles, tuple(found.board.strengths), PRIOR_VOTES)


def between_two(battles: Mapping[Battle, int]) -> dict[Battle, int]:
    """Those of two versions: what people said of two samples of one tells nothing about its strength."""
    return {battle: count for battle, count in battles.items() if battle[0] != battle[1]}


def scored(pairs: Sequence[PairCount], against_itself: int = 0) -> Standings:
    """The same from counts per pair."""
    pairs = tuple(pairs)
    decided = Counter[str]()
    for pair in pairs:
        for name in (pair.model_a, pair.model_b):
            decided[name] += pair.wins_a + pair.wins_b + pair.ties
    few = tuple(name for name in sorted(decided) if decided[name] < MIN_VOTES)
    board, trouble = _scores(pairs, decided)
    matrix = win_matrix(pairs, tuple(board.strengths) if board else None) if pairs else None
    return Standings(pairs, matrix, board, trouble, few, against_itself)


def _scores(pairs: tuple[PairCount, ...], decided: Counter[str]) -> tuple[Leaderboard | None, str]:
    if not pairs:
        return None, "No votes between two versions yet. Compare two of them on the A/B test page."
    most = max(decided.values(), default=0)
    if most < MIN_VOTES:
        return None, (
            f"Too few votes for scores: at most {most} count for any version, {MIN_VOTES} are required. "
            "Vote on the A/B test page; both-bad votes do not count here."
        )
    try:
        return bradley_terry(pairs, prior_votes=PRIOR_VOTES), ""
    except DisconnectedModels as error:
        groups = " | ".join(", ".join(group) for group in error.groups)
        return None, (
            f"These groups of versions were never compared with each other, so no common scale exists: {groups}. "
            "Pick one version of each group by hand on the A/B test page and vote."
        )
