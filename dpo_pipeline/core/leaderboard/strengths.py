"""Many versions on one scale: Bradley-Terry strengths, the win matrix, and votes per pair.

P(i beats j) = σ(θ_i − θ_j), the θ by maximum likelihood on the counts of each pair, centred on 0 (Bradley and
Terry 1952, "Rank analysis of incomplete block designs"). Two versions alone belong to `core.winrate`, whose
interval may be looked at as often as one likes; the intervals here hold at one look and take votes for
independent.

A tie is half a win to each side, or left out with `ties="drop"`. A vote of both_bad says that neither answer will
do, not that they are equal: it is left out, or taken for a tie with `both_bad="half"`.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from dpo_pipeline.core.leaderboard.battles import Battle, PairCount, Treatment, counted, tables, total
from dpo_pipeline.core.winrate import Floats
from dpo_pipeline.errors import DisconnectedModels

ELO_CENTRE = 1000.0
ELO_PER_LOGIT = 400 / math.log(10)


@dataclass(frozen=True)
class VersionStrength:
    """`log_strength` is centred on 0 over all models; `rank` is 1 + the number of significantly stronger models."""

    name: str
    log_strength: float
    std_error: float
    low: float
    high: float
    rank: int
    votes: int

    @property
    def elo(self) -> tuple[float, float, float]:
        """(score, low, high) as people know them from chess: 400 points are ten to one, the average is 1000."""
        score, low, high = (ELO_CENTRE + ELO_PER_LOGIT * value for value in (self.log_strength, self.low, self.high))
        return score, low, high


@dataclass(frozen=True)
class Leaderboard:
    """`strengths` by name, strongest first; `mean_nll` in nats per vote used, null without votes."""

    strengths: dict[str, VersionStrength]
    votes: int
    left_out: int
    mean_nll: float | None


@dataclass(frozen=True)
class WinMatrix:
    """`rates[i][j]` is the share of i's wins over j, null where they never met; `votes[i][j]` its denominator."""

    names: tuple[str, ...]
    rates: tuple[tuple[float | None, ...], ...]
    votes: tuple[tuple[int, ...], ...]


def bradley_terry(
    battles: Iterable[Battle | PairCount],
    ties: Treatment = "half",
    both_bad: Treatment = "drop",
    alpha: float = 0.05,
    prior_votes: float = 0.0,
) -> Leaderboard:
    """Strengths with intervals at level 1 − alpha from the sandwich covariance.

    The covariance is H⁺ V H⁺, with H the information and V the sum of squared scores, a vote a unit (White 1982,
    "Maximum likelihood estimation of misspecified models"); so ties narrow it as they should. The solver is
    Newton's on a matrix of models × models: votes cost nothing once counted.

    Args:
        battles: (model_a, model_b, winner), or counts per pair as `count_battles` gives them.
        prior_votes: tied votes added to each pair that met. A little (0.5) keeps a version finite that has won or
            lost every vote; 0 is plain maximum likelihood.

    Raises:
        DisconnectedModels: groups that never met, or of which one never won a vote from the others.
        ValueError: an unknown winner, a model against itself, a negative count or prior.
    """
    if not 0 <= prior_votes < math.inf:
        raise ValueError(f"prior_votes is {prior_votes}; at least 0 is required.")
    counts = counted(battles)
    names, wins, draws = tables(counts, ties, both_bad)
    left_out = sum(total(pair) for pair in counts) - round(float(wins.sum() + draws.sum() / 2))
    if not names:
        return Leaderboard({}, 0, left_out, None)
    prior = np.where((wins + wins.T + draws) > 0, prior_votes, 0.0)
    scores = wins + draws / 2
    _refuse_disconnected(names, scores + prior)
    theta = _fit(scores + prior / 2)
    covariance = _sandwich(theta, wins, draws, prior)
    z = NormalDist().inv_cdf(1 - alpha / 2)
    errors = np.sqrt(np.maximum(np.diag(covariance), 0.0))
    ranks = _ranks(theta, covariance, z)
    votes = (scores + scores.T).sum(axis=1)
    strengths = {
        names[i]: VersionStrength(
            names[i],
            float(theta[i]),
            float(errors[i]),
            float(theta[i] - z * errors[i]),
            float(theta[i] + z * errors[i]),
            int(ranks[i]),
            round(float(votes[i])),
        )
        for i in np.argsort(-theta, kind="stable").tolist()
    }
    used = float(scores.sum())
    return Leaderboard(strengths, round(used), left_out, -_log_likelihood(theta, scores) / used)


def bootstrap_intervals(
    counts: Sequence[PairCount], replicates: int = 100, alpha: float = 0.05, seed: int = 0
) -> dict[str, tuple[float, float]]:
    """Percentile intervals of the log-strengths over votes drawn again; slower than the sandwich, and its check.

    Efron (1979), "Bootstrap methods: another look at the jackknife". Ties count half, both_bad is left out.

    Raises:
        DisconnectedModels: of the votes, or of a replicate: then they are too few for a bootstrap.
    """
    names, wins, draws = tables(counts, "half", "drop")
    if not names:
        return {}
    upper = np.triu(draws)
    cells = np.concatenate([wins.ravel(), upper.ravel()])
    drawn = np.random.default_rng(seed).multinomial(round(float(cells.sum())), cells / cells.sum(), size=replicates)
    thetas = []
    for replicate in drawn.astype(np.float64):
        again, tied = replicate.reshape(2, len(names), len(names))
        scores = again + (tied + tied.T) / 2
        _refuse_disconnected(names, scores)
        thetas.append(_fit(scores))
    return {name: percentile_interval(column, alpha) for name, column in zip(names, np.transpose(thetas), strict=True)}


def percentile_interval(replicates: Sequence[float] | Floats, alpha: float = 0.05) -> tuple[float, float]:
    """The α/2 and 1 − α/2 quantiles, interpolated linearly between order statistics."""
    low, high = np.quantile(np.asarray(replicates, dtype=np.float64), [alpha / 2, 1 - alpha / 2])
    return float(low), float(high)


def win_matrix(
    battles: Iterable[Battle | PairCount],
    names: Sequence[str] | None = None,
    ties: Treatment = "half",
    both_bad: Treatment = "drop",
) -> WinMatrix:
    """Head-to-head: how often each beats each, of the votes used.

    Args:
        names: rows and columns in this order, say that of `Leaderboard.strengths`; null: all, by name.
    """
    found, wins, draws = tables(counted(battles), ties, both_bad)
    place = {name: i for i, name in enumerate(found)}
    shown = tuple(found if names is None else names)
    if unknown := [name for name in shown if name not in place]:
        raise ValueError(f"No battle of {', '.join(unknown)}; there are battles of {', '.join(found)}.")
    order = [place[name] for name in shown]
    scores = (wins + draws / 2)[np.ix_(order, order)]
    votes = np.rint(scores + scores.T).astype(np.int64)
    rates = tuple(
        tuple(float(won / met) if met else None for won, met in zip(row, column, strict=True))
        for row, column in zip(scores.tolist(), votes.tolist(), strict=True)
    )
    return WinMatrix(shown, rates, tuple(tuple(row) for row in votes.tolist()))


def _fit(scores: Floats) -> Floats:
    """Newton's method with halving; `scores[i, j]` is what i won from j, ties and prior included."""
    met, theta = scores + scores.T, np.zeros(len(scores))
    likelihood = _log_likelihood(theta, scores)
    for _ in range(100):
        expected = _win_probabilities(theta)
        gradient = (scores - met * expected).sum(axis=1)
        step = np.linalg.solve(_pinned(_laplacian(met * expected * expected.T)), gradient)
        while (found := _log_likelihood(theta + step, scores)) < likelihood - 1e-9 * abs(likelihood):
            step = step / 2
        theta, likelihood = theta + step, found
        if float(np.abs(step).max()) < 1e-9:
            break
    return np.asarray(theta - theta.mean(), dtype=np.float64)


def _sandwich(theta: Floats, wins: Floats, draws: Floats, prior: Floats) -> Floats:
    expected = _win_probabilities(theta)
    met = wins + wins.T + draws + prior
    bread = np.linalg.inv(_pinned(_laplacian(met * expected * expected.T)))
    meat = _laplacian(wins * expected.T**2 + wins.T * expected**2 + draws * (0.5 - expected) ** 2)
    covariance: Floats = bread @ meat @ bread
    return covariance


def _ranks(theta: Floats, covariance: Floats, z: float) -> NDArray[np.int64]:
    variances = np.diag(covariance)
    gaps = np.sqrt(np.maximum(variances[:, None] + variances[None, :] - 2 * covariance, 0.0))
    significantly = theta[None, :] - theta[:, None] > z * gaps
    ranks: NDArray[np.int64] = 1 + significantly.sum(axis=1)
    return ranks


def _win_probabilities(theta: Floats) -> Floats:
    expected: Floats = 0.5 * (1 + np.tanh((theta[:, None] - theta[None, :]) / 2))
    return expected


def _log_likelihood(theta: Floats, scores: Floats) -> float:
    return -float((scores * np.logaddexp(0.0, theta[None, :] - theta[:, None])).sum())


def _laplacian(weights: Floats) -> Floats:
    return np.diag(weights.sum(axis=1)) - weights


def _pinned(laplacian: Floats) -> Floats:
    """Without the direction in which all strengths rise together, which no vote can tell."""
    pinned: Floats = laplacian + np.trace(laplacian) / len(laplacian) ** 2
    return pinned


def _refuse_disconnected(names: Sequence[str], scores: Floats) -> None:
    """Finite strengths exist if and only if every model is reached from every other by wins (Ford 1957)."""
    beats = scores > 0
    for links, trouble in (
        (beats | beats.T, "share no vote that counts. Show pairs across the groups"),
        (beats, "meet on one side only: some never won, or never lost, a vote. Collect more, or set prior_votes"),
    ):
        groups = _groups(links)
        if len(groups) > 1:
            named = tuple(tuple(names[i] for i in group) for group in groups)
            listed = " | ".join(", ".join(group) for group in named)
            raise DisconnectedModels(f"{len(groups)} groups of models {trouble}: {listed}", named)


def _groups(links: NDArray[np.bool_]) -> list[list[int]]:
    """Strongly connected components of the graph, largest first."""
    from scipy.sparse.csgraph import connected_components  # not at the top: it takes a third of a second

    count, labels = connected_components(links, connection="strong")
    return sorted((np.flatnonzero(labels == label).tolist() for label in range(count)), key=len, reverse=True)
