"""The A/B test between a new version and the champion: one set of votes, read in two ways, of which one decides.

*Panel*: these voters are fixed, the questions are random, and each voter weighs about the same. It says what these
people prefer. *Population*: the voters are a sample of many, each counts once. It says what people like them prefer,
and needs many of them. Both intervals hold however often one looks.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import Literal

from dpo_pipeline.core.exposure import Audience
from dpo_pipeline.core.winrate import SHARES, Outcome, WinRate, confidence_sequence, win_rate
from dpo_pipeline.settings import RolloutPolicy

Reading = Literal["panel", "population"]
NEARLY_EVERYBODY = 0.5
"""Voters who are so large a share of last week's people are the audience, and no sample of it."""
ENOUGH_VOTERS = 60
"""With fewer voters than this the population's preference cannot be told in any time."""
LEAST_CAP, CAP = 3, 3
"""Of one person at least three votes count, and at most three times as many as of the middle one."""
PRIOR = 10.0
"""Of the mixture, as Beta(PRIOR, PRIOR): tightest where 50 to 400 votes lie between 55 and 75 %. See decision 0013."""
WITHOUT_FACTOR = 1.5
"""The test without the strongest voter is made at so many times the level: it only asks whether others agree."""


@dataclass(frozen=True)
class AbTest:
    """Both readings; `without` is the deciding one without the person who speaks most for the new version."""

    reading: Reading
    panel: WinRate
    population: WinRate
    without: WinRate
    why: str

    @property
    def deciding(self) -> WinRate:
        return self.panel if self.reading == "panel" else self.population

    def __str__(self) -> str:
        if self.reading == "panel":
            return f"{self.panel} (panel)"
        return f"{self.population} (population)"


def read_votes(votes: Sequence[tuple[str, Outcome]], policy: RolloutPolicy, audience: Audience) -> AbTest:
    """Both readings of the votes between two versions.

    Args:
        votes: (annotator, outcome for the new version), in log order.
        audience: of the week before the rollout.
    """
    by_person: dict[str, list[Outcome]] = {}
    for person, outcome in votes:
        by_person.setdefault(person, []).append(outcome)
    reading, why = choose_reading(len(by_person), policy, audience)
    read = _panel if reading == "panel" else _population
    strongest = max(by_person, key=lambda person: _spoken_for(by_person[person], policy), default=None)
    others = {person: mine for person, mine in by_person.items() if person != strongest}
    alpha = policy.ab_alpha
    return AbTest(
        reading,
        _panel(by_person, alpha, policy),
        _population(by_person, alpha, policy),
        read(others, WITHOUT_FACTOR * alpha, policy),
        why,
    )


def choose_reading(voters: int, policy: RolloutPolicy, audience: Audience) -> tuple[Reading, str]:
    """(which reading decides, why)."""
    if policy.reading != "auto":
        return policy.reading, "rollout.reading asks for it"
    if voters < ENOUGH_VOTERS:
        return "panel", f"{voters} voters are too few to speak for others"
    if audience.people and voters >= NEARLY_EVERYBODY * audience.people:
        return "panel", f"the {voters} voters are nearly all of the {audience.people} people who use the model"
    return "population", f"the {voters} voters are a sample of many"


def _spoken_for(votes: Sequence[Outcome], policy: RolloutPolicy) -> float:
    """By how many votes a person's counted ones lie above a draw."""
    counted = votes[: policy.votes_per_person]
    return sum(SHARES[vote] - 0.5 for vote in counted)


def _panel(by_person: dict[str, list[Outcome]], alpha: float, policy: RolloutPolicy) -> WinRate:
    """Each vote counts, of one person at most CAP times as many as of the middle one.

    Which votes count depends on how many there are, never on what they say, and counted ones stay counted: so the
    sequence stays valid. Votes of people who differ vary less than those of one coin (Hoeffding 1956): the interval is,
    if anything, too wide; error rates are simulated in `test_ab_test`.
    """
    if not by_person:
        return win_rate([])
    cap = max(LEAST_CAP, CAP * int(median(map(len, by_person.values()))))
    counted = [vote for mine in by_person.values() for vote in mine[:cap]]
    won = sum(SHARES[vote] for vote in counted)
    return _rate(counted, won, len(counted), alpha, len(by_person), "votes")


def _population(by_person: dict[str, list[Outcome]], alpha: float, policy: RolloutPolicy) -> WinRate:
    """Each person counts once, with the mean of their first votes."""
    capped = [mine[: policy.votes_per_person] for mine in by_person.values()]
    counted = [vote for mine in capped for vote in mine]
    if not counted:
        return win_rate([])
    won = sum(fmean(SHARES[vote] for vote in mine) for mine in capped)
    return _rate(counted, won, len(capped), alpha, len(capped), "people")


def _rate(
    counted: Sequence[Outcome], won: float, units: int, alpha: float, people: int, unit: Literal["people", "votes"]
) -> WinRate:
    """The share won of so many units, with the interval whose lower end an equal version passes with chance alpha."""
    low, high = confidence_sequence(won, units - won, 2 * alpha, PRIOR)
    wins, losses, ties = (counted.count(outcome) for outcome in ("win", "loss", "tie"))
    return WinRate(wins, losses, ties, won / units, low, high, people, unit)
