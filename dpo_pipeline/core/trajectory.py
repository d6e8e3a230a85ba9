"""The way of the versions: each one's figures, what it added over v1.0, and whether the gains are getting smaller."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from dpo_pipeline.core.controlled_winrate import ControlledWinRate
from dpo_pipeline.core.winrate import WinRate

DIMINISHING = 0.5


@dataclass(frozen=True)
class VersionFigures:
    """One version as people met it. `win_rate` is over v1.0 by votes, `controlled` the same for equal lengths and
    sides; lengths in words."""

    name: str
    status: str
    satisfaction: float | None = None
    ratings: int = 0
    win_rate: WinRate | None = None
    controlled: ControlledWinRate | None = None
    words: float | None = None
    parent_words: float | None = None
    evaluation_win_rate: float | None = None


@dataclass(frozen=True)
class Trajectory:
    """Versions in order, and whether the gains are getting smaller."""

    versions: tuple[VersionFigures, ...]
    gains: tuple[float, ...]
    finding: str


def trajectory(versions: Sequence[VersionFigures]) -> Trajectory:
    """Win rates over v1.0 in order of versions, what each added, and diminishing returns by name."""
    known = [each for each in versions if each.win_rate and each.win_rate.rate is not None]
    rates = [0.5] + [float(each.win_rate.rate or 0.0) for each in known if each.win_rate]
    gains = tuple(round(after - before, 4) for before, after in pairwise(rates))
    if len(gains) < 2:
        return Trajectory(tuple(versions), gains, "Too few versions have votes against v1.0 to show a trend.")
    first, last = gains[0], gains[-1]
    if last <= 0:
        found = f"{known[-1].name} added nothing over {known[-2].name}: collect other categories or change the recipe."
    elif last < DIMINISHING * first:
        found = f"Diminishing returns: {known[-1].name} added {last:.1%}, {known[0].name} had added {first:.1%}."
    else:
        found = f"Still improving: {known[-1].name} added {last:.1%}."
    return Trajectory(tuple(versions), gains, found)
