"""Formulas in TeX as MathML, which browsers draw by themselves: nothing is loaded, and nothing in it can act."""

import re
from html import escape, unescape
from itertools import accumulate
from xml.etree.ElementTree import Element

from latex2mathml.converter import convert_to_element
from markdown_it import MarkdownIt
from markdown_it.rules_inline import StateInline

DEEPEST = 30
"""Braces within braces; beyond these converting ends in Python's own limit."""
LONGEST = 1_000
"""Characters of one formula; a longer one is none."""
KEPT = frozenset({
    "accent", "accentunder", "columnalign", "columnspacing", "depth", "display", "displaystyle", "fence",
    "form", "height", "linethickness", "lspace", "mathsize", "mathvariant", "maxsize", "minsize",
    "movablelimits", "notation", "rowspacing", "rspace", "scriptlevel", "separator", "stretchy", "symmetric",
    "width",
})  # fmt: skip
"""Attributes that only say how it is drawn. What goes elsewhere or comes with a style is left out."""

INLINE, BLOCK = "math_inline", "math_block"
_DELIMITERS = {"\\(": ("\\)", INLINE), "\\[": ("\\]", BLOCK), "$$": ("$$", BLOCK), "$": ("$", INLINE)}
# Comments, empty space of a text's size, and commands that mean something else from then on.
_HIDES = re.compile(r"(?<!\\)%|\\(?:[hv]?phantom|mathchoice|def|(?:re)?newcommand|let)(?![a-zA-Z])")


def formulas(parser: MarkdownIt) -> None:
    """A plugin that finds them: between dollars and in TeX's brackets, within a paragraph."""
    parser.inline.ruler.before("escape", "formulas", _formula)


def _formula(state: StateInline, silent: bool) -> bool:
    opening = next((each for each in _DELIMITERS if state.src.startswith(each, state.pos)), "")
    if not opening:
        return False
    closing, kind = _DELIMITERS[opening]
    start = state.pos + len(opening)
    end = state.src.find(closing, start, start + LONGEST)
    tex = state.src[start : max(end, start)]
    if not tex.strip() or (opening == "$" and not _between_dollars(state.src, start, end)):
        return False
    if not silent:
        state.push(kind, "math", 0).content = tex
    state.pos = end + len(closing)
    return True


def _between_dollars(text: str, start: int, end: int) -> bool:
    """Not so prices ("$5 or $10") and names ("$HOME:$PATH"): a space within, a letter or digit without."""
    outside = text[max(start - 2, 0) : start - 1] + text[end + 1 : end + 2]
    return not (text[start].isspace() or text[end - 1].isspace() or any(each.isalnum() for each in outside))


def mathml(tex: str, block: bool) -> str:
    """A formula as an element of its own; as it is written where the converter cannot read it, or where TeX would hide
    a part of it.

    Args:
        tex: without its delimiters.
        block: on lines of its own.
    """
    if _HIDES.search(tex) or _depth(tex) > DEEPEST:
        return as_written(tex)
    try:
        return _serialised(convert_to_element(tex, display="block" if block else "inline"))
    except Exception:  # whatever the converter stumbles over in what a model wrote
        return as_written(tex)


def _depth(tex: str) -> int:
    return max(accumulate((each == "{") - (each == "}") for each in tex), default=0)


def as_written(tex: str) -> str:
    return f"<code>{escape(tex)}</code>"


def _serialised(element: Element) -> str:
    """By hand: the converter leaves characters as entities and does not escape the rest."""
    attributes = "".join(f' {name}="{escape(value)}"' for name, value in element.attrib.items() if name in KEPT)
    inside = escape(unescape(element.text or "")) + "".join(map(_serialised, element))
    return f"<{element.tag}{attributes}>{inside}</{element.tag}>"
