"""A forecast as a plot: when each stage of a rollout is likely to end, and which error rates would be seen by then."""

from collections.abc import Mapping
from typing import Any

from dpo_pipeline.core.forecast import Forecast
from dpo_pipeline.core.rollout import STAGES
from dpo_pipeline.reports.plots import Draw

COLOURS = ("#4f46e5", "#0f766e", "#b45309")
NARROW = 0.08
"""Share of the longest rollout below which a stage is drawn without words."""


def rollout_forecast(forecasts: Mapping[str, Forecast]) -> Draw:
    """One line a stage, from its likely begin to its end, for each audience.

    Args:
        forecasts: by what the audience is called; three at most.
    """

    def draw(axes: Any) -> None:
        ends = [each.ends_after_h or 0.0 for found in forecasts.values() for each in found.stages]
        longest = max(ends, default=0.0) / 24
        for place, found in enumerate(forecasts.values()):
            colour, row, begin = COLOURS[place], len(forecasts) - 1 - place, 0.0
            for each in found.stages:
                if each.ends_after_h is None:
                    break
                end, requests = each.ends_after_h / 24, f"{each.requests:,}"
                axes.plot([begin, end], [row, row], color=colour, linewidth=9, solid_capstyle="butt", alpha=0.85)
                axes.plot([end, end], [row - 0.16, row + 0.16], color="white", linewidth=1.5)
                if end - begin < NARROW * longest:  # its words would lie over its neighbour's
                    begin = end
                    continue
                axes.annotate(each.stage, ((begin + end) / 2, row + 0.2), ha="center", fontsize=8)
                axes.annotate(requests, ((begin + end) / 2, row - 0.32), ha="center", fontsize=7)
                begin = end
            axes.annotate(
                f"{STAGES[-1]}: {_seen(found)}" if begin else "staging: not decided in time",
                (begin, row), xytext=(6, 0), textcoords="offset points", va="center", fontsize=8,
            )  # fmt: skip
        axes.set_yticks(range(len(forecasts)), list(forecasts)[::-1])
        axes.set_ylim(-0.6, len(forecasts) - 0.4)
        axes.set_xlim(0, 1.9 * max([1.0, *axes.get_xlim()]))
        axes.set_xlabel("days since the rollout began; below a stage: requests that the new version answers in it")

    return draw


def _seen(found: Forecast) -> str:
    """What would have been seen by then with 80 % chance."""
    rate, loss = found.seen_error_rate, found.seen_satisfaction_loss
    errors = "no error rate" if rate is None else f"errors of {rate:.1%}"
    opinion = "no loss of satisfaction" if loss is None else f"a satisfaction {loss:.1f} lower"
    return f"{errors} and {opinion}\nwould have been seen"
