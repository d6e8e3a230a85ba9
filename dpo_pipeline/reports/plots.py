"""Plots as SVG for pages and files, and as PNG for Dagster. Axes are labelled, units named, intervals drawn."""

import base64
import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

BLUE, ORANGE, GREY, INK = "#2f6fb0", "#c8651b", "#8b96a3", "#1c2430"
THEMED = {INK: "--ink", GREY: "--soft", BLUE: "--first", ORANGE: "--second"}
"""The variables of a page's style that stand for these colours, so that a plot is as light or dark as its page."""
INLINE_IN = 5.0
"""Inches: narrow enough that its labels can be read on a phone."""
Draw = Callable[[Any], None]


def rows_in(rows: Sequence[object] | Mapping[str, object]) -> float:
    """The height of a plot of `intervals` with so many rows, in inches."""
    return 0.6 + 0.35 * (1 + len(rows))


def inline(draw: Draw, height: float = 2.4) -> str:
    """What `draw` puts on the axes, for a page: without a background, in the page's colours.

    Args:
        height: in inches; the width is that of every plot, and the page stretches it to its own.
    """
    from matplotlib import rc_context

    style: dict[Any, Any] = {"figure.facecolor": "none", "axes.facecolor": "none"}
    style |= dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), INK)
    with rc_context(style):
        drawn = svg(draw, INLINE_IN, height)
    for colour, variable in THEMED.items():
        drawn = drawn.replace(colour, f"var({variable})")
    return drawn


def svg(draw: Draw, width: float = 7.0, height: float = 3.0) -> str:
    """What `draw` puts on the axes, as a picture with a background of its own; sizes in inches."""
    buffer = io.StringIO()
    _figure(draw, width, height).savefig(
        buffer, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type"))
    )
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def png_markdown(draw: Draw, name: str, width: float = 7.0, height: float = 3.0) -> str:
    """The same as a markdown image that carries itself: the form in which Dagster shows plots."""
    buffer = io.BytesIO()
    _figure(draw, width, height).savefig(buffer, format="png", dpi=110)
    return f"![{name}](data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()})"


def intervals(
    rows: Mapping[str, tuple[float | None, float, float]], mark: float = 0.5, label: str = "win rate"
) -> Draw:
    """One line a row: (value or null, low, high), with a mark to compare with; the first row on top."""

    def draw(axes: Any) -> None:
        from matplotlib.ticker import PercentFormatter

        names = list(rows)
        for place, name in enumerate(reversed(names)):
            value, low, high = rows[name]
            axes.plot([low, high], [place, place], color=GREY, linewidth=3, solid_capstyle="round")
            if value is not None:
                axes.plot([value], [place], "o", color=BLUE if value >= mark else ORANGE, markersize=7, clip_on=False)
        axes.axvline(mark, color=INK, linewidth=1, linestyle=":")
        axes.set_yticks(range(len(names)), list(reversed(names)))
        axes.set_ylim(-0.6, len(names) - 0.4)
        axes.set_xlim(0, 1)
        axes.xaxis.set_major_formatter(PercentFormatter(1.0))
        axes.set_xlabel(label)

    return draw


def two_histograms(ours: Sequence[float], theirs: Sequence[float], names: tuple[str, str], label: str) -> Draw:
    """How two samples spread over the same bins."""

    def draw(axes: Any) -> None:
        from matplotlib.ticker import MaxNLocator

        axes.hist([list(ours), list(theirs)], bins=16, color=[BLUE, ORANGE], label=list(names))
        axes.set_xlabel(label)
        axes.set_ylabel("answers")
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend(frameon=False)

    return draw


def versions_line(values: Mapping[str, float | None], y_label: str, target: float | None = None) -> Draw:
    """One value a version, in order, with the target as a line."""

    def draw(axes: Any) -> None:
        known = [(place, value) for place, value in enumerate(values.values()) if value is not None]
        axes.plot([place for place, _ in known], [value for _, value in known], color=BLUE, marker="o")
        axes.set_xticks(range(len(values)), list(values))
        axes.set_xlabel("version")
        axes.set_ylabel(y_label)
        if target is not None:
            axes.axhline(target, color=INK, linewidth=1, linestyle=":")
            axes.annotate(f"target {target:g}", (0, target), textcoords="offset points", xytext=(2, 4), fontsize=8)

    return draw


def _figure(draw: Draw, width: float, height: float) -> Any:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    draw(axes)
    return figure
