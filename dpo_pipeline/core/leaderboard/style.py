"""Scores at equal style: how strong versions are once the length and the formatting of answers may not speak.

logit P(a beats b) = θ_a − θ_b + γ₁·δ_length + γ₂·δ_formatting, with δ = (x_a − x_b) / (x_a + x_b) of the characters
and of the marks of formatting of both answers: the style control of the Chatbot Arena (Li, Angelopoulos and Chiang
2024, "Does style matter? Disentangling style and substance in Chatbot Arena"). δ is counted in fifths, so that votes
cost nothing once counted. Intervals hold at one look, with votes taken for independent; where there are many ties they
are a little wider than those of `strengths`.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

from dpo_pipeline.core.leaderboard.battles import Battle
from dpo_pipeline.core.leaderboard.strengths import ELO_CENTRE, ELO_PER_LOGIT
from dpo_pipeline.core.winrate import Floats

STEPS = 5
PRIOR = 1.0
"""Precision of both γ around 0, as of one vote or two: where the longer answer won every time there is no maximum."""
_MARKS = ("\n# ", "\n## ", "\n### ", "\n- ", "\n* ", "\n+ ", "\n1. ", "**", "`")
"""Plain texts: every vote is counted with them, and a pattern would take ten times as long."""
_SHARES = {"model_a": 1.0, "model_b": 0.0, "tie": 0.5}


class StyleLean(NamedTuple):
    """How much more the first of two answers has, of both together: −5 (all of it the second's) to 5, in fifths."""

    length: int
    formatting: int


@dataclass(frozen=True)
class StyleBoard:
    """`scores` by version, (score, low, high) as people know them from chess. `length` and `formatting` are the γ,
    each as (γ, low, high)."""

    scores: dict[str, tuple[float, float, float]]
    length: tuple[float, float, float]
    formatting: tuple[float, float, float]

    @property
    def odds_of_twice_the_length(self) -> tuple[float, float, float]:
        """(odds, low, high) of an answer beside an equally good one of half its length."""
        odds, low, high = (math.exp(each / 3) for each in self.length)
        return odds, low, high


def lean_of(first: str, second: str) -> StyleLean:
    """Of two answers."""
    return StyleLean(_lean(len(first), len(second)), _lean(_marks(first), _marks(second)))


def _marks(text: str) -> int:
    return sum(map(f"\n{text}".count, _MARKS))


def _lean(first: int, second: int) -> int:
    return round(STEPS * (first - second) / (first + second)) if first + second else 0


def style_controlled(
    battles: Mapping[tuple[Battle, StyleLean], int], names: tuple[str, ...], prior_votes: float, alpha: float = 0.05
) -> StyleBoard:
    """
    Args:
        battles: how often each (model_a, model_b, winner) was voted with each lean of a over b; both_bad is left out,
            and so is what names others.
        names: versions that have plain scores: they are connected by votes.
        prior_votes: tied votes of equal style added to each pair that met, as in the plain scores.
    """
    place = {name: column for column, name in enumerate(names)}
    rows: dict[tuple[int, int, StyleLean], list[float]] = {}
    for ((first, second, winner), lean), count in battles.items():
        if winner in _SHARES and first != second and first in place and second in place:
            counts = rows.setdefault((place[first], place[second], lean), [0.0, 0.0, 0.0])
            counts[list(_SHARES).index(winner)] += count
    for a, b in {(min(a, b), max(a, b)) for a, b, _ in rows}:
        rows.setdefault((a, b, StyleLean(0, 0)), [0.0, 0.0, 0.0])[2] += prior_votes
    design = np.zeros((len(rows), len(names) + 2))
    for row, (a, b, lean) in enumerate(rows):
        design[row, [a, b]] = 1.0, -1.0
        design[row, -2:] = lean.length / STEPS, lean.formatting / STEPS
    weights, variances = _fit(design, np.array(list(rows.values())).reshape(len(rows), 3))
    reach = NormalDist().inv_cdf(1 - alpha / 2) * np.sqrt(variances)
    found = [(float(at), float(at - far), float(at + far)) for at, far in zip(weights, reach, strict=True)]
    scores = {
        name: tuple(ELO_CENTRE + ELO_PER_LOGIT * each for each in found[at])
        for name, at in sorted(place.items(), key=lambda each: -weights[each[1]])
    }
    return StyleBoard(scores, found[-2], found[-1])  # type: ignore[arg-type]


def _fit(design: Floats, counts: Floats) -> tuple[Floats, Floats]:
    """Newton's method: the weights and their variances; counts (rows, 3) are wins, losses and ties of the first.

    Variances are the sandwich's, and no smaller than those of the information: where style tells every vote, residuals
    vanish, and a sandwich of them would say that all is known. Ties do not narrow them, then.
    """
    shares, votes = np.array(list(_SHARES.values())), counts.sum(axis=1)
    won, columns = counts @ shares, design.shape[1]
    # All strengths may rise together, which no vote can tell: their sum is held at 0.
    pin = np.zeros((columns, columns))
    pin[:-2, :-2] = 1.0
    ridge = pin + PRIOR * np.diag([0.0] * (columns - 2) + [1.0, 1.0])

    def loss(at: Floats) -> float:
        logits = design @ at
        return float(votes @ np.logaddexp(0.0, logits) - won @ logits + at @ ridge @ at / 2)

    def information(expected: Floats) -> Floats:
        found: Floats = (design.T * (votes * expected * (1 - expected))) @ design + ridge
        return found

    weights = np.zeros(columns)
    for _ in range(100):
        expected = _sigmoid(design @ weights)
        step = np.linalg.solve(information(expected), design.T @ (won - votes * expected) - ridge @ weights)
        before = loss(weights)
        while loss(weights + step) > before + 1e-9 * abs(before) and float(np.abs(step).max()) > 1e-12:
            step = step / 2
        weights = weights + step
        if float(np.abs(step).max()) < 1e-9:
            break
    expected = _sigmoid(design @ weights)
    bread = np.linalg.inv(information(expected))
    squares = (counts * (shares[None, :] - expected[:, None]) ** 2).sum(axis=1)
    sandwich = bread @ ((design.T * squares) @ design) @ bread
    variances: Floats = np.maximum(np.diag(sandwich), np.diag(bread))
    return weights, variances


def _sigmoid(logits: Floats) -> Floats:
    found: Floats = 0.5 * (1 + np.tanh(logits / 2))
    return found
