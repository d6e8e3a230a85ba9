"""Answers as people expect to read them: headings, lists, tables, emphasis, code and formulas, in HTML that can do
nothing.

No HTML of the text's own, no image, no link: those stay the characters they are. And nothing is hidden: where Markdown
would drop a word or a number (a cell too many, a quote nested too deep), or take a product for emphasis, the text is
shown as it is.
"""

import re
import string
from collections import Counter
from collections.abc import Sequence
from html import unescape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from markdown_it.token import Token

LONGEST, MOST_COLUMNS, MOST_TABLE_LINES = 20_000, 30, 1_000
"""Beyond these a text is shown as it is: rendering it could take longer than a person waits."""
COPY = '<button type="button" class="md-copy">Copy</button>'
CJK = "\u2e80"
"""From here on scripts are written without spaces between words."""
STYLE = """
.md { white-space: normal; overflow-wrap: anywhere; }
.md > :first-child { margin-top: 0 !important; } .md > :last-child { margin-bottom: 0 !important; }
.md p, .md ul, .md ol, .md blockquote { margin: 0 0 .6rem !important; }
.md :is(h3, h4, h5, h6) { margin: .8rem 0 .3rem; font-size: 1.05em; font-weight: 650; color: inherit; }
.md ul { list-style: disc outside; padding-left: 1.4rem !important; }
.md ol { list-style: decimal outside; padding-left: 1.6rem !important; }
.md blockquote { border-left: 3px solid var(--border-color-primary); padding-left: .8rem; }
.md .md-wide { overflow-x: auto; margin: 0 0 .6rem; contain: inline-size; }
.md .md-wide table { border-collapse: collapse; margin: 0; }
.md .md-wide :is(th, td) { border: 1px solid var(--border-color-primary); padding: .25rem .6rem; text-align: left;
  overflow-wrap: normal; }
.md-math { display: block; overflow-x: auto; margin: 0 0 .6rem; }
.md code { font: .875em/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; padding: .1em .3em;
  border-radius: 4px; background: var(--border-color-primary); color: inherit; }
.md-code { margin: 0 0 .6rem; contain: inline-size; overflow: hidden; border-radius: 8px;
  border: 1px solid var(--border-color-primary); }
.md-code > div { display: flex; justify-content: space-between; padding: .2rem .7rem; font-size: .8125rem; }
.md-code pre { margin: 0; padding: .6rem .7rem; overflow-x: auto; background: var(--background-fill-secondary); }
.md-code pre code { padding: 0; background: none; white-space: pre; }
"""
"""Of what is in such a text, in the variables of Gradio's themes."""
_TAG = re.compile(r"<[^<>]*+>")
_NUMBER = re.compile(r'<li value="(\d+)">')


def rendered(value: str, to_copy: bool = False) -> str:
    """As HTML; empty where the text is too much, or a word of it would be lost.

    Args:
        to_copy: blocks of code have a button that copies them; the page brings what it does.
    """
    # Where a text is rendered: what imports a page's style or a report needs no parser.
    from dpo_pipeline.core.markdown_parser import has_formulas, html, parsed

    in_tables = [line.count("|") for line in value.split("\n") if "|" in line]
    if len(value) > LONGEST or len(in_tables) > MOST_TABLE_LINES or max(in_tables, default=0) > MOST_COLUMNS:
        return ""
    tokens = parsed(value)
    if any(_takes_a_product_for_emphasis(token.children or ()) for token in tokens):
        return ""
    copy = COPY if to_copy else ""
    made = html(tokens, copy)
    counted = html(tokens, copy, as_written=True) if has_formulas(tokens) else made
    return made if _content(_shown(counted)) == _content(value) else ""


def _takes_a_product_for_emphasis(children: "Sequence[Token]") -> bool:
    """Whether emphasis begins right behind an operand and another follows right behind it, as in 17*3*2."""
    begun: list[bool] = []
    for place, token in enumerate(children):
        if token.type in ("em_open", "strong_open"):
            before = children[place - 1].content[-1:] if place else ""
            begun.append(_is_operand(before, ")]|"))
        elif token.type in ("em_close", "strong_close"):
            after = children[place + 1].content[:1] if place + 1 < len(children) else ""
            if begun.pop() and _is_operand(after, "([|"):
                return True
    return False


def _is_operand(character: str, brackets: str) -> bool:
    """Chinese and its neighbours are written without spaces; there emphasis may touch words."""
    return character != "" and (character in brackets or (character.isalnum() and character < CJK))


def _shown(made: str) -> str:
    """What a person reads of it, the numbers of lists with it."""
    labels, numbers = made.count(COPY), "".join(_NUMBER.findall(made))
    return unescape(_TAG.sub("", made)).replace("Copy", "", labels) + numbers


def _content(value: str) -> Counter[str]:
    """The characters that mean something by themselves, and how often."""
    return Counter(each for each in value if not each.isspace() and each not in string.punctuation)
