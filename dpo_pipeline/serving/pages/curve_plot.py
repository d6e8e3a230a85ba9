"""The curves of a training as small plots in the colours of the page, each with its axes and their units."""

from collections.abc import Sequence
from html import escape

from dpo_pipeline.core.training_curve import MEASURES, Measure, Point, line_of
from dpo_pipeline.serving.pages.markup import Markup, text

STYLE = """<style>
.dpo .curves { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(18rem, 100%), 1fr)); gap: 1rem; }
.dpo .curve { margin: 0; display: grid; grid-template-columns: auto 1fr; gap: 0.2rem 0.4rem; }
.dpo .curve :is(figcaption, .steps) { grid-column: 2; }
.dpo .curve figcaption { font-weight: 600; }
.dpo .curve :is(small, .steps, .values) { color: var(--body-text-color-subdued); font-size: 0.8rem; font-weight: 400; }
.dpo .curve small { display: block; }
.dpo .curve :is(.steps, .values) { display: flex; justify-content: space-between; font-variant-numeric: tabular-nums; }
.dpo .curve .values { flex-direction: column; text-align: right; line-height: 1; }
.dpo .curve svg { width: 100%; height: 9rem; overflow: visible; }
.dpo .curve line { stroke: var(--border-color-primary); stroke-width: 1; }
.dpo .curve polyline { fill: none; stroke: var(--color-accent); stroke-width: 2; }
</style>"""


def curve_plots(points: Sequence[Point]) -> Markup:
    """Those measures that the training has at two steps at least; empty where there is none."""
    lines = [(each, line_of(points, each.key)) for each in MEASURES]
    plots = "".join(_plot(measure, line) for measure, line in lines if len(line) > 1)
    return Markup(f'{STYLE}<div class="curves">{plots}</div>') if plots else Markup("")


def _plot(measure: Measure, line: Sequence[tuple[float, float]]) -> str:
    values = [value for _, value in line]
    low, high = measure.bounds or (min(values), max(values))
    first, last = line[0][0], line[-1][0]
    width, room = (last - first) or 1.0, (high - low) or 1.0
    drawn = " ".join(f"{100 * (step - first) / width:.1f},{50 - 50 * (value - low) / room:.1f}" for step, value in line)
    grid = "".join(f'<line x1="0" y1="{y}" x2="100" y2="{y}" vector-effect="non-scaling-stroke"/>' for y in (0, 25, 50))
    ticks = "".join(f"<span>{value:.3g}</span>" for value in (high, (low + high) / 2, low))
    told = f"{measure.title}: from {values[0]:.3g} at step {first:.0f} to {values[-1]:.3g} at step {last:.0f}"
    return (
        f'<figure class="curve"><figcaption>{text(measure.title)}<small>{text(measure.unit)}</small></figcaption>'
        f'<div class="values" aria-hidden="true">{ticks}</div>'
        f'<svg viewBox="0 0 100 50" preserveAspectRatio="none" role="img" aria-label="{escape(told)}">{grid}'
        f'<polyline points="{drawn}" vector-effect="non-scaling-stroke"/></svg>'
        f'<div class="steps" aria-hidden="true"><span>{first:.0f}</span><span>step</span><span>{last:.0f}</span></div>'
        "</figure>"
    )
