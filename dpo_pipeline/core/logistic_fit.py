"""Logistic regression of shares: fitted by maximum likelihood, with errors that follow groups of rows."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dpo_pipeline.core.winrate import Floats

SEPARATED_LOGIT = 15.0  # odds of three million to one: the data separate, no finite maximum exists
SEPARATION_PENALTY = 0.01


@dataclass(frozen=True)
class Fit:
    """`scores` (n, k): each row's gradient; `inverse` (k, k): of the information."""

    weights: Floats
    scores: Floats
    inverse: Floats
    separated: bool


def fit_logistic(design: Floats, shares: Floats) -> Fit:
    """Maximum likelihood for shares in [0, 1]; with a weak ridge where the rows separate and no maximum exists."""
    weights, settled = _newton(design, shares, 0.0)
    penalty = 0.0 if settled else SEPARATION_PENALTY
    if not settled:
        weights, _ = _newton(design, shares, penalty)
    expected = sigmoid(design @ weights)
    information = (design.T * (expected * (1 - expected))) @ design + penalty * np.eye(design.shape[1])
    inverse = np.asarray(np.linalg.pinv(information, rcond=1e-13, hermitian=True), dtype=np.float64)
    return Fit(weights, design * (shares - expected)[:, None], inverse, not settled)


def _newton(design: Floats, shares: Floats, penalty: float) -> tuple[Floats, bool]:
    """Weights (k,), and whether they settled before any prediction ran away."""
    weights = np.zeros(design.shape[1])

    def loss(at: Floats) -> float:
        logits = design @ at
        return float(np.logaddexp(0.0, logits).sum() - shares @ logits + penalty / 2 * at @ at)

    for _ in range(100):
        expected = sigmoid(design @ weights)
        gradient = design.T @ (shares - expected) - penalty * weights
        information = (design.T * (expected * (1 - expected))) @ design + penalty * np.eye(len(weights))
        step = np.linalg.pinv(information, rcond=1e-13, hermitian=True) @ gradient
        before = loss(weights)
        while loss(weights + step) > before + 1e-9 * abs(before) and float(np.abs(step).max()) > 1e-12:
            step = step / 2
        weights = weights + step
        if float(np.abs(design @ weights).max()) > SEPARATED_LOGIT and penalty == 0:
            return weights, False
        if float(np.abs(design @ step).max()) < 1e-10:
            return weights, True
    return weights, False


def clustered_error(fit: Fit, people: Sequence[str]) -> float | None:
    """Standard error of the second weight, on the scale of log-odds; null where the votes cannot give one."""
    _, places = np.unique(np.array(people, dtype=np.str_), return_inverse=True)
    groups, (rows, columns) = int(places.max()) + 1, fit.scores.shape
    if groups < 2 or rows <= columns or fit.separated:
        return None
    sums = np.zeros((groups, columns))
    np.add.at(sums, places, fit.scores)
    scale = groups / (groups - 1) * (rows - 1) / (rows - columns)
    spread = fit.inverse @ (sums.T @ sums) @ fit.inverse
    return math.sqrt(scale * float(spread[1, 1]))


def estimable(design: Floats, targets: Floats) -> bool:
    """Whether rows like these can be predicted at all: they lie in the row space of the design."""
    # The small product first: the other way round is a table of questions by questions.
    return bool(np.allclose(targets @ (np.linalg.pinv(design, rcond=1e-5) @ design), targets, atol=1e-8))


def sigmoid(logits: Floats) -> Floats:
    shares: Floats = 0.5 * (1 + np.tanh(logits / 2))
    return shares


def sigmoid_of(logit: float) -> float:
    return 0.5 * (1 + math.tanh(logit / 2))
