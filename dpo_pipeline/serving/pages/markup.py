"""Tables, bars and intervals as HTML. Everything that people or models wrote is escaped here, and only shown.

Colours are Gradio's own variables, so that light and dark follow the theme.
"""

import math
import re
from collections.abc import Callable, Iterable, Sequence
from html import escape
from itertools import count
from typing import Any

from dpo_pipeline.core.word_differences import WordSpan, word_differences
from dpo_pipeline.serving.pages.theme import into_view

STYLE = """<style>
.dpo { color: var(--body-text-color); font-size: 0.95rem; line-height: 1.5; overflow-wrap: anywhere; }
.dpo h2 { margin: 0.9rem 0 0.3rem; font-size: 1.05rem !important; }
.dpo .muted { color: var(--body-text-color-subdued); font-size: 0.85rem; }
.dpo .notice { border-left: 4px solid var(--color-accent); background: var(--background-fill-secondary);
  padding: 0.6rem 0.9rem; margin: 0.3rem 0; }
.dpo .notice + p { margin-top: .5rem !important; }
.dpo .notice.trouble { border: 1px solid #d92d20; border-left-width: 4px; color: #b42318; }
.dark .dpo .notice.trouble { color: #fda29b; }
.dpo .warned { border-left-color: #b45309 !important; color: #92400e !important; }
.dark .dpo .warned { color: #fcd34d !important; }
.dpo a { padding: 0 !important; }
.dpo .warned b { color: inherit; }
.dpo .command pre code { white-space: pre-wrap; overflow-wrap: anywhere; }
.dpo .wide { overflow-x: auto; contain: inline-size; }
.dpo table { border-collapse: collapse; width: 100%; margin: 0.2rem 0 0.6rem; border: none; }
.dpo caption { text-align: left; color: var(--body-text-color-subdued); font-size: 0.85rem; padding-bottom: 0.2rem; }
.dpo .wide :is(table, thead, tbody, tr) { border: none !important; }
.dpo .wide th, .dpo .wide td { text-align: left; padding: 0.35rem 0.6rem; border: none;
  border-bottom: 1px solid var(--border-color-primary); vertical-align: top; overflow-wrap: break-word; }
.dpo .wide :is(th, .short) { white-space: nowrap; }
.dpo .wide .long { min-width: 15rem; }
.dpo .wide .number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
@media (max-width: 600px) {
  .dpo .stacked :is(table, caption, tbody, tr, th) { display: block; }
  .dpo .stacked thead { display: none; }
  .dpo .wide.stacked tr { border-bottom: 1px solid var(--border-color-primary) !important; padding: 0.4rem 0; }
  .dpo .wide.stacked :is(th, td, .number, .long) { padding: 0.1rem 0; border: none; text-align: left;
    white-space: normal; min-width: 0; }
  .dpo .wide.stacked td { display: grid; grid-template-columns: 9rem 1fr; gap: 0.6rem; }
  .dpo .wide.stacked td:has(> div:empty) { display: none; }
  .dpo .stacked td::before { content: attr(data-name); color: var(--body-text-color-subdued); }
}
.dpo .bar { position: relative; height: 0.9rem; border-radius: 0.45rem; background: var(--border-color-primary);
  min-width: 6rem; overflow: hidden; }
.dpo .bar > i { position: absolute; inset: 0 auto 0 0; background: var(--color-accent); border-radius: 0.45rem; }
.dpo .bar > u { position: absolute; top: 0; bottom: 0; background: repeating-linear-gradient(
  -45deg, var(--color-accent) 0 3px, transparent 3px 7px); }
.dpo .bar > b { position: absolute; top: 0; bottom: 0; width: 2px; background: var(--body-text-color); opacity: 0.55; }
.dpo .scale { display: grid; grid-template-columns: minmax(4rem, auto) 1fr minmax(8.5rem, auto); gap: 0.35rem 0.8rem;
  align-items: center; margin: 0.5rem 0; }
@media (max-width: 600px) {
  .dpo .scale { grid-template-columns: auto 1fr; }
  .dpo .scale > span:nth-child(3n) { grid-column: 2; font-size: 0.85rem; }
}
.dpo .track { position: relative; height: 1.5rem; border-bottom: 1px solid var(--border-color-primary); }
.dpo .track > i { position: absolute; top: 0.7rem; height: 3px; background: var(--color-accent); }
.dpo .track > b { position: absolute; top: 0.35rem; width: 0.75rem; height: 0.75rem; margin-left: -0.375rem;
  border-radius: 50%; background: var(--color-accent); border: 2px solid var(--body-background-fill); }
.dpo .track > s { position: absolute; top: 0; bottom: 0; width: 1px; background: var(--body-text-color-subdued); }
.dpo .turn { white-space: pre-wrap; width: fit-content; max-width: min(44rem, 92%); padding: 0.5rem 0.8rem;
  margin: 0.6rem 0 0.1rem; border-radius: 0.8rem; border: 1px solid var(--border-color-primary);
  background: var(--background-fill-secondary); }
.dpo .turn.model { white-space: normal; }
.dpo .turn.model:has(.md-code, .md-wide) { width: min(44rem, 92%); }
.dpo .turn.own { margin-left: auto; border-color: var(--color-accent); }
.dpo .by { display: flex; flex-wrap: wrap; align-items: baseline; gap: 0.1rem 0.9rem; margin: 0 0 0.6rem 0.3rem;
  font-size: 0.8rem; }
.dpo .own > .by { justify-content: flex-end; }
.dpo .act { border: none !important; background: none !important; padding: 0 !important; cursor: pointer;
  box-shadow: none !important; font: inherit !important; margin: 0 !important; color: var(--link-text-color) !important;
  text-decoration: underline; }
.dpo .act:disabled { cursor: default; text-decoration: none; color: var(--body-text-color-subdued) !important; }
.dpo .act[aria-pressed=true] { font-weight: 700 !important; text-decoration: none;
  color: var(--body-text-color) !important; }
.dpo .asks { border-left-color: #b45309; font-weight: 600; padding: 0.5rem 0.9rem; }
.dpo :is(.stage-track, .rules, .timeline) { padding: 0 !important; margin: 0.4rem 0 !important; }
.dpo :is(.stage-track, .rules, .timeline) > li { list-style: none !important; margin: 0; padding: 0; }
.dpo .stage-track { display: grid; grid-template-columns: repeat(5, 1fr); gap: 0.5rem; }
.dpo .stage-track > li { border-top: 4px solid var(--border-color-primary); padding-top: 0.4rem; }
.dpo .stage-track > li.done { border-top-color: #15803d; }
.dpo .stage-track > li.now { border-top-color: var(--color-accent); }
.dpo .stage-track > li.to-come { color: var(--body-text-color-subdued); }
.dpo .stage-track span { display: block; font-size: 0.85rem; }
.dpo .rules { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(20rem, 100%), 1fr)); gap: 0.6rem; }
.dpo .rules > li { border: 1px solid var(--border-color-primary); border-radius: 0.5rem; padding: 0.6rem 0.8rem; }
.dpo .rules p { display: block !important; margin: 0.1rem 0 0; }
.dpo .rule { display: flex; justify-content: space-between; gap: 0.5rem; align-items: start; }
.dpo .chip { display: inline-block; border: 1px solid currentColor; border-radius: 1rem; padding: 0 0.6rem;
  font-size: 0.8rem; font-weight: 600; white-space: nowrap; color: var(--body-text-color-subdued); }
.dpo .chip.ok { color: #166534; } .dark .dpo .chip.ok { color: #86efac; }
.dpo .chip.watching { color: #92400e; } .dark .dpo .chip.watching { color: #fcd34d; }
.dpo .chip.triggered { color: #b42318; } .dark .dpo .chip.triggered { color: #fda29b; }
.dpo .axis { position: relative; height: 1.3rem; }
.dpo .axis > span { position: absolute; top: 0.25rem; font-size: 0.75rem; line-height: 1; transform: translateX(-50%);
  white-space: nowrap; color: var(--body-text-color-subdued); }
.dpo .axis > span::before { content: ""; position: absolute; left: 50%; top: -0.3rem; height: 0.25rem; width: 1px;
  background: var(--body-text-color-subdued); }
.dpo .scale > span:empty { display: none; }
.dpo .limit { position: relative; height: 2.1rem; margin: 0.2rem 0.8rem 0; }
.dpo .limit ~ .axis { margin: 0 0.8rem; }
.dpo .limit > u { position: absolute; left: 0; right: 0; top: 1.6rem; height: 1px;
  background: var(--border-color-primary); }
.dpo .limit > i { position: absolute; top: 1.5rem; height: 4px; border-radius: 2px; background: var(--color-accent); }
.dpo .limit > b { position: absolute; top: 1.2rem; width: 0.75rem; height: 0.75rem; margin-left: -0.375rem;
  border-radius: 50%; background: var(--color-accent); border: 2px solid var(--body-background-fill); }
.dpo .limit > s { position: absolute; top: 1.1rem; height: 1rem; width: 2px; background: var(--body-text-color); }
.dpo .limit > span { position: absolute; top: 0; font-size: 0.75rem; transform: translateX(-50%);
  white-space: nowrap; color: var(--body-text-color-subdued); }
.dpo .strip { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(13rem, 100%), 1fr)); gap: 0.6rem;
  padding: 0 !important; margin: 0.8rem 0 !important; }
.dpo .strip > li { list-style: none !important; margin: 0; padding: 0.6rem 0.8rem; border-radius: 0.5rem;
  border: 1px solid var(--border-color-primary); border-top: 4px solid var(--border-color-primary); }
.dpo .strip > li.working { border-top-color: var(--color-accent); }
.dpo .strip > li.stuck { border-top-color: #d92d20; }
.dpo .strip h2 { margin: 0; }
.dpo .strip p { display: block !important; margin: 0.3rem 0 0 !important; }
.dpo .strip a { margin: 0; white-space: nowrap; }
.dpo .strip .figure { font-size: 1.5rem; font-weight: 600; }
.dpo .spark { width: 100%; height: 2rem; margin-top: 0.4rem; }
.dpo .spark polyline { fill: none; stroke: var(--color-accent); stroke-width: 2; }
.dpo .timeline > li { border-left: 2px solid var(--border-color-primary); padding: 0 0 0.5rem 0.9rem; }
#history:has(.complete) ~ #older, .column:has(.complete) #older { display: none; }
.dpo summary { cursor: pointer; }
.dpo summary:focus-visible { outline: 3px solid var(--color-accent); outline-offset: 2px; }
.dpo time { color: var(--body-text-color-subdued); font-size: 0.85rem; font-variant-numeric: tabular-nums; }
@media (max-width: 600px) {
  .dpo .stage-track { grid-template-columns: 1fr; }
  .dpo .stage-track > li { border-top: none; padding: 0 0 0 0.7rem;
    border-left: 4px solid var(--border-color-primary); }
  .dpo .stage-track > li.done { border-left-color: #15803d; }
  .dpo .stage-track > li.now { border-left-color: var(--color-accent); }
  .dpo .stage-track > li:not(.now) span { display: inline; margin-left: 0.6rem; }
}
.dpo .text { white-space: pre-wrap; border: 1px solid var(--border-color-primary); border-radius: 0.5rem;
  padding: 0.6rem 0.8rem; background: var(--background-fill-secondary); margin: 0.2rem 0 0.6rem; }
.dpo details { border-bottom: 1px solid var(--border-color-primary); padding: 0.3rem 0; }
.dpo summary { cursor: pointer; }
.dpo mark { background: color-mix(in srgb, var(--color-accent) 28%, transparent); color: inherit; border-radius: 2px; }
.dpo .sides { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(18rem, 100%), 1fr)); gap: 0.8rem; }
.dpo .figures { display: flex; flex-wrap: wrap; gap: 0.6rem 2rem; margin: 0.4rem 0; }
.dpo .figures dt { color: var(--body-text-color-subdued); font-size: 0.85rem; }
.dpo .figures dd { margin: 0; font-size: 1.25rem; font-weight: 600; }
</style>"""


_TAG = re.compile(r"<[^<>]*>")
MANY_COLUMNS = 3
"""So many do not fit side by side on a phone: the table is a list of its rows there."""


class Markup(str):
    """Text that is HTML already; everything else is escaped."""

    __slots__ = ()


def page(*parts: str) -> str:
    """Parts in one block that carries the style."""
    return f'{STYLE}<div class="dpo">{"".join(parts)}</div>'


def text(value: object) -> str:
    """As it is where it is markup, else escaped."""
    return value if isinstance(value, Markup) else escape(str(value))


def heading(value: str) -> Markup:
    return Markup(f"<h2>{text(value)}</h2>")


def paragraph(value: object, kind: str = "") -> Markup:
    """
    Args:
        kind: `muted`, `notice`, or `notice trouble`.
    """
    role = ' role="alert"' if "trouble" in kind else ' role="status"' if "notice" in kind else ""
    return Markup(f'<p class="{kind}"{role}>{text(value)}</p>')


def notice(message: str, trouble: bool = False) -> str:
    """A message to the person, as a block of its own; an empty block for an empty text."""
    return page(paragraph(message, "notice trouble" if trouble else "notice")) if message else page()


def told_here() -> Any:
    """Gradio's component for notices of a page; one of trouble comes into view, for it may be off a small screen."""
    import gradio as gr

    return gr.HTML(page(), elem_id="told", js_on_load=into_view(".trouble"))


def quoted(value: str) -> Markup:
    """A text of several lines, exactly as it is."""
    return boxed(Markup(escape(value)))


def boxed(inside: Markup) -> Markup:
    return Markup(f'<div class="text">{inside}</div>')


def differing(names: Sequence[str], texts: tuple[str, str]) -> Markup:
    """Two texts side by side, exactly as they are, the words marked that the other lacks."""
    sides = zip(names, word_differences(*texts), strict=True)
    return Markup(
        '<div class="sides">'
        + "".join(f"<section><b>{text(name)}</b>{boxed(_marked(spans))}</section>" for name, spans in sides)
        + "</div>"
    )


def _marked(spans: Sequence[WordSpan]) -> Markup:
    return Markup("".join(f"<mark>{escape(said)}</mark>" if differs else escape(said) for said, differs in spans))


def opening(summary: str, inside: Markup) -> Markup:
    """What is shown once somebody asks for it."""
    return Markup(f"<details><summary>{text(summary)}</summary>{inside}</details>")


def table(
    caption: str, head: Sequence[str], rows: Iterable[Sequence[object]], numbers: Sequence[int] = (), label: str = ""
) -> Markup:
    """The first cell of each row is its header.

    Args:
        numbers: places of the columns that hold numbers.
        label: its name among the regions of the page, where other tables there have the same caption.
    """
    kinds = [' class="number"' if place in numbers else "" for place in range(len(head))]
    top = "".join(f'<th scope="col"{kind}>{text(cell)}</th>' for kind, cell in zip(kinds, head, strict=True))
    names = [escape(_TAG.sub("", text(cell))) if isinstance(cell, Markup) else escape(cell) for cell in head]
    body = ""
    for first, *rest in rows:
        cells = "".join(
            f'<td data-name="{name}"{kind or _kind(cell)}><div>{text(cell)}</div></td>'
            for name, kind, cell in zip(names[1:], kinds[1:], rest, strict=True)
        )
        body += f'<tr><th scope="row"{kinds[0]}>{text(first)}</th>{cells}</tr>'
    shape = "wide stacked" if len(head) >= MANY_COLUMNS else "wide"
    # A wide table scrolls by itself; tabindex lets the arrow keys do it.
    return Markup(
        f'<div class="{shape}" tabindex="0" role="region" aria-label="{escape(label or caption)}"><table>'
        f"<caption>{text(caption)}</caption><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def figures(values: Sequence[tuple[str, object]]) -> Markup:
    """A few numbers in large, each with its name."""
    pairs = "".join(f"<div><dt>{text(name)}</dt><dd>{text(value)}</dd></div>" for name, value in values)
    return Markup(f'<dl class="figures">{pairs}</dl>')


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


def chip(word: str, kind: str) -> Markup:
    """A state in a word.

    Args:
        kind: `ok`, `watching`, `triggered` or `none`, for its colour.
    """
    return Markup(f'<span class="chip {escape(kind)}">{text(word)}</span>')


def link(name: str, address: str) -> Markup:
    return Markup(f'<a href="{escape(address)}">{text(name)}</a>')


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


def details(summary: Markup, inside: Markup) -> Markup:
    """A line that opens to what is behind it."""
    return Markup(f"<details><summary>{summary}</summary>{inside}</details>")


def sentence(value: str) -> str:
    return value[:1].upper() + value[1:]


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


def _kind(cell: object) -> str:
    """A sentence in a narrow table needs room, and a date stays on its line, or either becomes a tower of words."""
    if isinstance(cell, Markup):
        return ""
    return ' class="long"' if len(str(cell)) > 30 else ' class="short"'


def _percent(share: float) -> str:
    return f"{100 * min(max(share, 0.0), 1.0):.2f}%"
