"""Bars, intervals and small curves as HTML, each with what it shows in words for whoever cannot see it."""

import math
from collections.abc import Callable, Sequence
from html import escape
from itertools import count

from dpo_pipeline.serving.pages.markup import Markup, paragraph, sentence, text


def bar(share: float, label: str, marks: Sequence[float] = (), simulated: float = 0.0) -> Markup:
    """A bar filled to `share` (of 1), hatched for what is `simulated` beyond it, with thin lines at `marks`."""
    lines = "".join(f'<b style="left:{_percent(mark)}"></b>' for mark in marks)
    filled = f'<i style="width:{_percent(share)}"></i>' if share else ""
    if simulated:
        filled += f'<u style="left:{_percent(share)};width:{_percent(min(simulated, 1 - min(share, 1)))}"></u>'
    return Markup(f'<div class="bar" role="img" aria-label="{escape(label)}">{filled}{lines}</div>')


def intervals(
    label: str,
    rows: Sequence[tuple[str, float, float, float, str]],
    mark: float,
    bounds: tuple[float, ...] = (),
    share: bool = False,
) -> Markup:
    """Points with error bars on one scale, with ticks below it.

    Args:
        share: values are shares of 1.
        rows: (name, low, point, high, what to write beside it).
        mark: where a thin line stands for comparison.
        bounds: values that the scale shall hold in any case.
    """
    values = [value for row in rows for value in row[1:4]] + [mark, *bounds]
    low, high = min(values), max(values)
    room = (high - low) * 0.06 or 1.0

    def place(value: float) -> float:
        return (value - low + room) / (high - low + 2 * room)

    line = f'<s style="left:{_percent(place(mark))}"></s>'
    cells = "".join(
        f'<span>{text(name)}</span><div class="track">{line}<i style="left:{_percent(place(lowest))};'
        f'width:{_percent(place(highest) - place(lowest))}"></i><b style="left:{_percent(place(point))}"></b></div>'
        f"<span>{text(told)}</span>"
        for name, lowest, point, highest, told in rows
    )
    axis = f"<span>&nbsp;</span>{_axis(low, high, place, share)}<span></span>"
    return Markup(f'<div class="scale" role="group" aria-label="{escape(label)}">{cells}{axis}</div>')


def ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Round values in [low, high], at most so many: multiples of 1, 2 or 5 times a power of ten."""
    if high <= low:
        return [low]
    steps = (
        factor * 10.0**power for power in count(math.floor(math.log10((high - low) / most))) for factor in (1, 2, 5)
    )
    step = next(step for step in steps if math.floor(high / step + 1e-9) - math.ceil(low / step - 1e-9) < most)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(number * step, 12) for number in range(first, last + 1)]


def _axis(low: float, high: float, place: Callable[[float], float], share: bool) -> Markup:
    values = ticks(low, high)
    step = values[1] - values[0] if len(values) > 1 else high - low
    decimals = max(-math.floor(math.log10(step) + 1e-9) - 2 * share, 0) if step > 0 else 0
    labels = "".join(
        f'<span style="left:{_percent(place(value))}">{value:.{decimals}{"%" if share else "f"}}</span>'
        for value in values
    )
    return Markup(f'<div class="axis" aria-hidden="true">{labels}</div>')


def sparkline(values: Sequence[float], label: str) -> Markup:
    """A small curve, its lowest and highest value at the edges; first and last are told to those who do not see it."""
    low, high = min(values), max(values)
    room = (high - low) or 1.0
    points = " ".join(
        f"{100 * place / (len(values) - 1):.1f},{28 - 26 * (value - low) / room:.1f}"
        for place, value in enumerate(values)
    )
    told = f"{label}: from {values[0]:.3g} to {values[-1]:.3g}"
    return Markup(
        f'<svg class="spark" viewBox="0 0 100 30" preserveAspectRatio="none" role="img" aria-label="{escape(told)}">'
        f'<polyline points="{points}" vector-effect="non-scaling-stroke"/></svg>'
    )


def against_limit(axis: str, low: float, point: float, high: float, limit: float, share: bool) -> Markup:
    """A point with its interval, and the limit it must not pass, on an axis with ticks.

    Args:
        axis: what is plotted.
        share: shares of 1, of which at most `limit` are allowed; otherwise stars, of which it is the least.
    """
    # A wide interval of few requests must not squeeze the limit into a corner: the axis ends at six times it.
    begin, end = (0.0, max(1.15 * point, 2 * limit, min(1.05 * high, 6 * limit)) or 1.0) if share else (1.0, 5.0)

    def place(value: float) -> float:
        return (value - begin) / (end - begin)

    shown = f"limit {limit:.1%}" if share else f"at least {limit:.2f}"
    left, right = max(place(low), 0.0), min(place(high), 1.0)
    found = f"{point:.1%}, from {low:.1%} to {high:.1%}" if share else f"{point:.2f}, from {low:.2f} to {high:.2f}"
    plot = (
        f'<div class="limit" role="img" aria-label="{escape(f"{axis}: {found}, {shown}")}"><u></u>'
        f'<i style="left:{_percent(left)};width:{_percent(right - left)}"></i>'
        f'<s style="left:{_percent(place(limit))}"></s><b style="left:{_percent(place(point))}"></b>'
        f'<span style="left:{_percent(min(max(place(limit), 0.12), 0.88))}">{shown}</span></div>'
    )
    return Markup(f"{plot}{_axis(begin, end, place, share)}{paragraph(sentence(axis), 'muted')}")


def _percent(share: float) -> str:
    return f"{100 * min(max(share, 0.0), 1.0):.2f}%"
