"""What the figures of a week are called, and in which unit they are told: report, alerts, Dagster, terminal."""

from collections.abc import Mapping
from typing import Literal, NamedTuple

KpiUnit = Literal["share", "stars", "requests", "votes", "points"]


class KpiName(NamedTuple):
    label: str
    unit: KpiUnit


KPI_NAMES: Mapping[str, KpiName] = {
    "user_satisfaction": KpiName("Satisfaction, 1 to 5", "stars"),
    "win_rate_over_baseline": KpiName("Win rate over v1.0", "share"),
    "error_rate": KpiName("Error rate", "share"),
    "session_length": KpiName("Requests per session", "requests"),
    "preferences_collected": KpiName("Preferences collected", "votes"),
    "category_coverage": KpiName("Categories covered", "share"),
    "clear_winners": KpiName("Votes with a clear winner", "share"),
    "quality_score": KpiName("Quality of the pairs, 0 to 1", "points"),
}


def kpi_label(name: str) -> str:
    return KPI_NAMES[name].label


def kpi_value(name: str, value: float) -> str:
    """ "71.9%", "3.69", "181": as precise as it is worth reading; small shares to a hundredth of a per cent."""
    unit = KPI_NAMES[name].unit
    if unit == "share":
        if value in (0.0, 1.0):
            return f"{value:.0%}"
        return f"{value:.2%}" if abs(value) < 0.01 else f"{value:.1%}"
    return f"{value:,.0f}" if unit == "votes" else f"{value:,.2f}" if unit != "requests" else f"{value:,.1f}"


def at_least(name: str, target: float) -> str:
    """A target as a sentence has it; targets are set as round numbers."""
    return f"at least {_round(name, target)}"


def below(name: str, target: float) -> str:
    return f"below {_round(name, target)}"


def _round(name: str, target: float) -> str:
    return f"{100 * target:g}%" if KPI_NAMES[name].unit == "share" else f"{target:g}"
