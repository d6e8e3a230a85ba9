"""A self-contained HTML page: one file, no script, no request to anywhere; light and dark, on paper and on a phone."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape

from dpo_pipeline.core import markdown
from dpo_pipeline.core.word_differences import WordSpan, word_differences
from dpo_pipeline.in_words import cell

LONG, MANY = 24, 4
"""A table with cells of so many characters, or with so many columns, is a list of its rows on a phone."""
_NUMBER = re.compile(r"[-–]?[\d.,]*\s?(%|ms|s|h|days)?")
LIVE = ("The loop, live", "/")
"""Where reports lead back to."""
STYLE = (
    """
:root { color-scheme: light dark; --ink: #1c2430; --soft: #5a6675; --line: #d8dee6; --back: #ffffff; --card: #f5f7fa;
  --good: #17703a; --bad: #b3261e; --open: #8a5a00; --mark: #ffe7a3; --first: #2f6fb0; --second: #c8651b;
  --link: #4338ca; --border-color-primary: var(--line); --background-fill-secondary: var(--back); }
@media (prefers-color-scheme: dark) { :root { --ink: #e6eaf0; --soft: #a3afbd; --line: #37414d; --back: #12171d;
  --card: #1b222b; --good: #6fd196; --bad: #ff9d94; --open: #f0c163; --mark: #5b4a12; --first: #7db3ea;
  --second: #f0a06a; --link: #a5b4fc; } }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--back); margin: 0 auto;
  padding: 1.5rem; max-width: 60rem; }
h1 { font-size: 1.6rem; margin: 0 0 .3rem; } h2 { font-size: 1.15rem; margin: 2rem 0 .5rem; }
p.sub { color: var(--soft); margin: 0 0 1rem; } .verdict { font-weight: 600; font-size: 1.15rem; }
a { color: var(--link); } nav { margin: 0 0 1rem; }
.good { color: var(--good); } .bad { color: var(--bad); } .open { color: var(--open); }
.wide { overflow-x: auto; } table { border-collapse: collapse; width: 100%; font-size: .92rem; }
mark { background: var(--mark); color: inherit; border-radius: 2px; }
details { border-bottom: 1px solid var(--line); padding: .4rem 0; } summary { cursor: pointer; }
.sides { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(18rem, 100%), 1fr)); gap: .8rem; }
.sides > div { background: var(--card); padding: .6rem .8rem; border-radius: .4rem; overflow-wrap: anywhere;
  min-width: 0; } .sides h3 { font-size: 1rem; margin: 0 0 .3rem; } .as-is { white-space: pre-wrap; }
details details { border: none; color: var(--soft); } details details .sides { color: var(--ink); }
th, td { text-align: left; padding: .35rem .6rem; border-bottom: 1px solid var(--line); vertical-align: top; }
th { color: var(--soft); font-weight: 600; } .n { text-align: right; font-variant-numeric: tabular-nums; }
figure { margin: .5rem 0; } figcaption { color: var(--soft); font-size: .88rem; }
figure svg { width: 100%; min-width: 19rem; max-width: 42rem; height: auto; display: block; }
@media (max-width: 40rem) { .stacked, .stacked tbody, .stacked tr { display: block; }
  .stacked tr:first-child { display: none; } .stacked tr { border-bottom: 1px solid var(--line); padding: .4rem 0; }
  .stacked td { display: grid; grid-template-columns: 8.5rem 1fr; gap: .6rem; border: 0; padding: .1rem 0;
    text-align: left; }
  .stacked td::before { content: attr(data-name); color: var(--soft); }
  .stacked td:first-child { display: block; font-weight: 600; } .stacked td:first-child::before { content: none; } }
ul { padding-left: 1.2rem; } pre { background: var(--card); padding: .7rem; overflow-x: auto; border-radius: .4rem; }
"""
    + markdown.STYLE
)


@dataclass
class ReportPage:
    """Parts in the order in which they are read; every text is escaped when it is put in.

    `links`: where it leads, back to the pages of serving first, as (name, address there).
    """

    title: str
    subtitle: str = ""
    links: Sequence[tuple[str, str]] = ()
    parts: list[str] = field(default_factory=list)

    def heading(self, text: str) -> None:
        self.parts.append(f"<h2>{escape(text)}</h2>")

    def paragraph(self, text: str, tone: str = "") -> None:
        """`tone`: verdict and one of good, bad, open."""
        self.parts.append(f'<p class="{escape(tone)}">{escape(text)}</p>')

    def points(self, texts: Sequence[str]) -> None:
        self.parts.append("<ul>" + "".join(f"<li>{escape(text)}</li>" for text in texts) + "</ul>")

    def table(self, rows: Sequence[Mapping[str, object]]) -> None:
        """Rows with the same keys; numbers stand on the right."""
        if not rows:
            self.parts.append("<p>none</p>")
            return
        right = {name for name in rows[0] if all(_is_number(row[name]) for row in rows)}
        head = "".join(f'<th scope="col"{_side(name in right)}>{escape(name)}</th>' for name in rows[0])
        body = "".join(
            "<tr>" + "".join(_cell(name, cell(row[name]), name in right) for name in rows[0]) + "</tr>" for row in rows
        )
        wide = len(rows[0]) >= MANY or any(len(cell(value)) > LONG for row in rows for value in row.values())
        kind = ' class="stacked"' if wide else ""
        self.parts.append(_wide("Table", f"<table{kind}><tr>{head}</tr>{body}</table>"))

    def side_by_side(self, summary: str, first: tuple[str, str], second: tuple[str, str]) -> None:
        """Two named texts to be opened: formatted, and below as they are, the words marked that the other lacks."""
        names, texts = (first[0], second[0]), (first[1], second[1])
        differing = [f'<div class="as-is">{"".join(map(_span, spans))}</div>' for spans in word_differences(*texts)]
        second_view = f"<details><summary>Words that differ</summary>{_sides(names, differing)}</details>"
        opened = _sides(names, [_formatted(text) for text in texts]) + second_view
        self.parts.append(f"<details><summary>{escape(summary)}</summary>{opened}</details>")

    def figure(self, svg: str, caption: str) -> None:
        """`svg` comes from `reports.plots.inline`, never from outside."""
        drawn = svg.replace("<svg ", f'<svg role="img" aria-label="{escape(caption)}" ', 1)
        self.parts.append(f"<figure>{_wide('Plot', drawn)}<figcaption>{escape(caption)}</figcaption></figure>")

    def html(self) -> str:
        links = " · ".join(f'<a href="{escape(address)}">{escape(name)}</a>' for name, address in self.links)
        return (
            '<!doctype html><html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            f'<title>{escape(self.title)}</title><meta name="description" content="{escape(self.subtitle)}">'
            f"<style>{STYLE}</style></head><body><main>"
            + (f"<nav>{links}</nav>" if links else "")
            + f'<h1>{escape(self.title)}</h1><p class="sub">{escape(self.subtitle)}</p>'
            + "".join(self.parts)
            + "</main></body></html>"
        )


def _wide(label: str, inside: str) -> str:
    """It scrolls on a phone, by keys too."""
    return f'<div class="wide" tabindex="0" role="group" aria-label="{label}">{inside}</div>'


def _sides(names: Sequence[str], contents: Sequence[str]) -> str:
    sides = zip(names, contents, strict=True)
    inside = "".join(f"<div><h3>{escape(name)}</h3>{each}</div>" for name, each in sides)
    return f'<div class="sides">{inside}</div>'


def _formatted(text: str) -> str:
    made = markdown.rendered(text)
    return f'<div class="md">{made}</div>' if made else f'<div class="as-is">{escape(text)}</div>'


def _span(span: WordSpan) -> str:
    return f"<mark>{escape(span[0])}</mark>" if span[1] else escape(span[0])


def _is_number(value: object) -> bool:
    """A number with or without its unit, or none."""
    return value is None or _NUMBER.fullmatch(cell(value)) is not None


def _cell(name: str, text: str, right: bool) -> str:
    return f'<td data-name="{escape(name)}"{_side(right)}>{escape(text)}</td>'


def _side(right: bool) -> str:
    return ' class="n"' if right else ""
