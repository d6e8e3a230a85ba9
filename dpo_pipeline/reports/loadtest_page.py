"""A load test on one page."""

from collections.abc import Mapping, Sequence
from typing import Any

from dpo_pipeline.reports import plots
from dpo_pipeline.reports.page import LIVE, ReportPage


def loadtest_page(url: str, rows: Sequence[Mapping[str, object]], latencies_ms: Sequence[float]) -> str:
    """Self-contained HTML."""
    page = ReportPage("Load test", url, [LIVE])
    page.table(rows)
    if latencies_ms:
        page.figure(plots.inline(_latencies(latencies_ms)), "Time to the whole answer.")
    return page.html()


def _latencies(latencies_ms: Sequence[float]) -> plots.Draw:
    def draw(axes: Any) -> None:
        axes.hist(list(latencies_ms), bins=40, color=plots.BLUE)
        axes.set_xlabel("ms")
        axes.set_ylabel("answers")

    return draw
