"""Tables, bars and intervals as HTML. Everything that people or models wrote is escaped here, and only shown.

Colours are Gradio's own variables, so that light and dark follow the theme.
"""

import re
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from dpo_pipeline.core.word_differences import WordSpan, word_differences
from dpo_pipeline.serving.pages.markup_style import STYLE
from dpo_pipeline.serving.pages.theme import into_view

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


def chip(word: str, kind: str) -> Markup:
    """A state in a word.

    Args:
        kind: `ok`, `watching`, `triggered` or `none`, for its colour.
    """
    return Markup(f'<span class="chip {escape(kind)}">{text(word)}</span>')


def link(name: str, address: str) -> Markup:
    return Markup(f'<a href="{escape(address)}">{text(name)}</a>')


def details(summary: Markup, inside: Markup) -> Markup:
    """A line that opens to what is behind it."""
    return Markup(f"<details><summary>{summary}</summary>{inside}</details>")


def sentence(value: str) -> str:
    return value[:1].upper() + value[1:]


def _kind(cell: object) -> str:
    """A sentence in a narrow table needs room, and a date stays on its line, or either becomes a tower of words."""
    if isinstance(cell, Markup):
        return ""
    return ' class="long"' if len(str(cell)) > 30 else ' class="short"'
