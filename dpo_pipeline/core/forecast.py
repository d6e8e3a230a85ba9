"""What an audience's rollouts can come to, before anybody is exposed: how long, how many votes, what would be seen.

Rules of thumb from the same tests that `core.rollout` decides by; `simulation.rollouts` plays whole rollouts instead.
"""

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dpo_pipeline.core.ab_test import PRIOR, WITHOUT_FACTOR, choose_reading
from dpo_pipeline.core.exposure import Audience, plan_rollout
from dpo_pipeline.core.rollout import EACH_OTHER, SPENT_AT, STAGE_ENDS, STAGES, stage_policy
from dpo_pipeline.core.sequential_tests import Events, Opinions, difference_bounds, ratio_p_value
from dpo_pipeline.core.winrate import confidence_sequence
from dpo_pipeline.settings import RolloutPolicy

WIN_RATES = (0.55, 0.60, 0.65, 0.75)
CHANCE = 0.8
USUAL_ERRORS, SPREAD, MOST_VOTES = 0.01, 1.1, 20_000
"""The champion's error rate, and the standard deviation of ratings, that are assumed."""
DRAWS = 200


@dataclass(frozen=True)
class StageForecast:
    """`ends_after_h`: hours from the rollout's start to the likely end of the stage; null: not within its limit."""

    stage: str
    traffic: float
    ends_after_h: float | None
    requests: int


@dataclass(frozen=True)
class Forecast:
    """`votes_needed` by win rate, null where more than 20,000; rates and losses that would be seen with 80 % chance.

    `seen_error_rate` is against a champion that fails 1 %; `seen_satisfaction_loss` is in points of 5; null: none.
    """

    unit: str
    reading: str
    shadow_share: float
    stages: tuple[StageForecast, ...]
    votes_needed: dict[str, int | None]
    days_of_voting: dict[str, float | None]
    seen_error_rate: float | None
    seen_satisfaction_loss: float | None
    advice: tuple[str, ...]

    @property
    def would_be_seen(self) -> str:
        """The error rate and the loss of satisfaction, in a sentence."""
        rate, loss = self.seen_error_rate, self.seen_satisfaction_loss
        errors = "no error rate up to 50 %: too few requests"
        if rate is not None:
            errors = f"an error rate of {rate:.1%} where the champion has {USUAL_ERRORS:.0%}"
        ratings = "no lower satisfaction: too few ratings" if loss is None else f"a satisfaction {loss:.2f} of 5 lower"
        return f"What would be noticed with {100 * CHANCE:.0f} % probability: {errors}; {ratings}."

    @classmethod
    def from_json(cls, kept: dict[str, Any]) -> "Forecast":
        """As the ledger keeps it beside the decision that began a rollout."""
        stages = tuple(StageForecast(**each) for each in kept["stages"])
        return cls(**(kept | {"stages": stages, "advice": tuple(kept["advice"])}))


def forecast(policy: RolloutPolicy, audience: Audience, votes_a_day: float, voters: int | None = None) -> Forecast:
    """
    Args:
        voters: how many of them vote; null: everybody.
    """
    plan = plan_rollout(policy, audience)
    voting = audience.people if voters is None else voters
    reading, _ = choose_reading(voting, policy, audience)
    needed = {f"{rate:.0%}": votes_needed(rate, voting, policy) for rate in WIN_RATES}
    days = {rate: votes / votes_a_day if votes is not None and votes_a_day else None for rate, votes in needed.items()}
    staging_days = days[f"{0.65:.0%}"]
    limit_h = policy.staging_limit_h * policy.duration_scale
    ends: float | None = None if staging_days is None or staging_days * 24 > limit_h else staging_days * 24
    # Without a likely end, the evidence of the whole limit is what staging can give.
    shadowed = audience.requests_an_hour * plan.shadow_share * (limit_h if ends is None else ends)
    stages = [StageForecast(STAGES[0], 0.0, ends, round(shadowed))]
    for name in STAGES[1:-1]:
        stage = stage_policy(name, policy)
        hours = stage.hours * policy.duration_scale
        ends = None if ends is None else ends + hours
        met = audience.requests_an_hour * stage.traffic * hours
        stages.append(StageForecast(name, stage.traffic, ends, round(met)))
    requests = sum(each.requests for each in stages)
    seen = seen_error_rate([each.requests for each in stages], policy)
    rated = audience.ratings / audience.requests if audience.requests else 0.0
    loss = seen_satisfaction_loss(rated * sum(each.requests for each in stages[1:]), policy)
    advice = _advice(policy, days, votes_a_day, requests, loss)
    return Forecast(plan.unit, reading, plan.shadow_share, tuple(stages), needed, days, seen, loss, advice)


def votes_needed(rate: float, voters: int, policy: RolloutPolicy) -> int | None:
    """Votes with which a version of this win rate wins if they fall as expected; null: more than 20,000."""
    others = 1 - 1 / max(voters, 2)
    votes = policy.min_ab_votes
    while votes <= MOST_VOTES:
        low, _ = confidence_sequence(rate * votes, (1 - rate) * votes, 2 * policy.ab_alpha, PRIOR)
        left = votes * others
        without, _ = confidence_sequence(rate * left, (1 - rate) * left, 2 * WITHOUT_FACTOR * policy.ab_alpha, PRIOR)
        if low > 0.5 and without > 0.5:
            return votes
        votes = math.ceil(votes * 1.02)
    return None


def seen_error_rate(requests: Sequence[int], policy: RolloutPolicy) -> float | None:
    """The lowest error rate that the test at the last stage's end finds with 80 % chance; null: none below one half.

    Args:
        requests: of the new version in each stage; the control's are as many.
    """
    alpha = STAGE_ENDS * SPENT_AT["half"] * policy.harm_alpha
    counts = np.array(requests)

    def is_seen(rate: float) -> bool:
        draw = np.random.default_rng(0)
        usual = draw.binomial(counts, USUAL_ERRORS, (DRAWS, len(counts)))
        bad = draw.binomial(counts, rate, (DRAWS, len(counts)))
        found = 0
        for mine, theirs in zip(bad, usual, strict=True):
            events = [Events(n, int(b), n, int(u)) for n, b, u in zip(requests, mine, theirs, strict=True) if n]
            found += ratio_p_value(events, policy.max_error_ratio) <= alpha
        return found >= CHANCE * DRAWS

    rates = [float(rate) for rate in np.geomspace(1.5 * USUAL_ERRORS, 0.5, 48)]
    # More errors are seen more often: bisection finds the first rate that is seen often enough.
    place = bisect_left(rates, True, key=is_seen)
    return rates[place] if place < len(rates) else None


def seen_satisfaction_loss(ratings: float, policy: RolloutPolicy) -> float | None:
    """The smallest difference of means, in points, that ratings show with 80 % chance; null: they never do."""
    units = int(ratings)
    if units < 2:
        return None
    opinions = Opinions(units, 4.0, SPREAD**2)
    low, high = difference_bounds(opinions, opinions, EACH_OTHER * policy.harm_alpha)
    loss = (high - low) / 2 + 0.84 * SPREAD * math.sqrt(2 / units)
    return loss if loss < 4 else None


def _advice(
    policy: RolloutPolicy, days: dict[str, float | None], votes_a_day: float, requests: int, loss: float | None
) -> tuple[str, ...]:
    told = []
    limit = policy.staging_limit_h / 24
    late = [rate for rate, took in days.items() if took is None or took > limit]
    if late:
        wanted = [votes for votes in (days[rate] for rate in late) if votes]
        more = f"; with {max(wanted) * votes_a_day / limit:.0f} a day it would be" if wanted and votes_a_day else ""
        told.append(
            f"With {votes_a_day:.3g} votes a day, a win rate of {' or '.join(late)} is not shown within {limit:g} days"
            f"{more}. Ask more people to vote, or give it longer (rollout.staging_limit_h)."
        )
    if requests < 500 and policy.shadow_copies_a_day == 0:
        told.append("Shadow copies are switched off; with them staging would see errors before anybody meets them.")
    if loss is None or loss > 0.5:
        told.append("Ratings are too few to show a loss of satisfaction: the A/B test stands in for them.")
    return tuple(told)
