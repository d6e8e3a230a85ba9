"""The curves of a training that a person looks at: which of what a trainer logs, in which unit, and how many points."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

MOST_POINTS = 200
"""More than a plot can show; a long training logs a hundred."""


@dataclass(frozen=True)
class Measure:
    """One curve, by the trainer's name of it. `bounds` are those of its axis; null: those of its values."""

    key: str
    title: str
    unit: str
    bounds: tuple[float, float] | None = None


MEASURES = (
    Measure("loss", "Loss", "nats"),
    Measure("rewards/margins", "Margin", "chosen over rejected, implicit reward in β × nats"),
    Measure("rewards/accuracies", "Accuracy", "share of pairs, chosen before rejected", (0.0, 1.0)),
)
Point = dict[str, float]
"""A row of the curve: `step`, and what was measured there by its key."""


def kept_points(rows: Sequence[Mapping[str, float]]) -> list[Point]:
    """What is kept of a trainer's rows, thinned out evenly where they are many; the last one is among them."""
    every = math.ceil(len(rows) / MOST_POINTS) if rows else 1
    names = ("step", *(each.key for each in MEASURES))
    return [{name: float(row[name]) for name in names if name in row} for row in rows[::-every][::-1]]


def line_of(points: Sequence[Point], key: str) -> list[tuple[float, float]]:
    """(step, value) of one measure."""
    return [(row["step"], row[key]) for row in points if key in row]
