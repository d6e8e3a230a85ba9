"""One rule for rolling a version back, as it was judged, and what such rules come to together."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from dpo_pipeline.core.rollout.evidence import VersionMetrics

COMPARED = ("error rate against the baseline", "satisfaction of the stage", "satisfaction against the baseline")


@dataclass(frozen=True)
class Interval:
    """What a rule looks at, as a plot shows it: the point estimate, how sure it is, and the limit.

    `axis` says what is plotted: a share of requests, or stars, of which at least `limit` are required. Decisions from
    before it was kept have none, and plotted stars as the difference to the limit.
    """

    low: float
    point: float
    high: float
    limit: float
    unit: Literal["share", "stars"] = "share"
    axis: str = ""


@dataclass(frozen=True)
class Condition:
    """One rule, judged twice: `literal` on point estimates, `evidence` by a test; null where nothing was measured.

    `needs`: how much more is wanted before it is told with confidence, such as "needs 18 more requests".
    """

    name: str
    literal: bool | None
    message: str
    evidence: bool | None
    test_message: str
    interval: Interval | None = None
    needs: str = ""

    @property
    def state(self) -> str:
        return state_of(self.literal, self.evidence)


def state_of(literal: bool | None, evidence: bool | None) -> str:
    """What a rule comes to, in a word: evidence triggers it, point estimates alone are watched."""
    if evidence:
        return "triggered"
    if literal:
        return "watching"
    return "no data yet" if literal is None and evidence is None else "OK"


def harm_of(found: Sequence[Condition]) -> list[str]:
    """The rules of which there is evidence, in words."""
    return [f"{each.name}: {each.message}; {each.test_message}" for each in found if each.evidence]


def warnings_of(found: Sequence[Condition]) -> list[str]:
    """Absolute rules that are triggered on point estimates without evidence: no reason to roll back, none to roll out.

    Rules that compare two versions are triggered by chance every second time when the two are alike; `_open_questions`
    asks for bounds instead.
    """
    return [
        f"{each.name}: {each.message}, without evidence yet ({each.test_message})"
        for each in found
        if each.literal and each.name not in COMPARED
    ]


def percent(rate: float | None) -> str:
    return "no data" if rate is None else f"{rate:.2%}"


def stars(metrics: VersionMetrics) -> str:
    return "no ratings" if metrics.satisfaction is None else f"{metrics.satisfaction:.2f}"
