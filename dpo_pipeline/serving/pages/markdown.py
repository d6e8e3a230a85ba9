"""Answers on pages as `core.markdown` makes them, with what needs a script: a button that copies code, and one that
shows them as they were written.
"""

import re
from functools import lru_cache
from html import escape, unescape

from dpo_pipeline.core import markdown
from dpo_pipeline.serving.pages.markup import Markup

TOGGLE = Markup(
    '<button type="button" class="md-toggle"><span class="if-md">Show raw text</span>'
    '<span class="if-raw">Show formatted</span></button>'
)
_PARAGRAPHS = re.compile(r"</?p>|<br />")
STYLE = (
    markdown.STYLE
    + """
html.raw-text :is(.md, .if-md), html:not(.raw-text) :is(.md-source, .if-raw) { display: none; }
html:not(:has(.md-source)) .md-toggle { display: none; }
.md-source, .md-only { white-space: pre-wrap; overflow-wrap: anywhere; }
.md-copy, .md-toggle { border: none !important; background: none !important; padding: 0 !important; cursor: pointer;
  box-shadow: none !important; font-size: .8125rem !important; font-weight: 400 !important; text-decoration: underline;
  color: var(--link-text-color) !important; }
"""
)
# Copies a block of code, and remembers whether a person wants to read what was written or how it is meant.
SCRIPT = """
(() => {
  const wanted = () => { try { return localStorage.getItem("raw-text") === "1"; } catch { return false; } };
  const show = raw => document.documentElement.classList.toggle("raw-text", raw);
  show(wanted());
  document.addEventListener("click", async event => {
    const pressed = event.target.closest && event.target.closest(".md-copy, .md-toggle");
    if (!pressed) return;
    if (pressed.matches(".md-toggle")) {
      const raw = !document.documentElement.classList.contains("raw-text");
      try { localStorage.setItem("raw-text", raw ? "1" : "0"); } catch { /* only for this page, then */ }
      show(raw);
      return;
    }
    const code = pressed.closest(".md-code").querySelector("code");
    try { await navigator.clipboard.writeText(code.innerText); pressed.textContent = "Copied"; }
    catch {
      getSelection().selectAllChildren(code);
      pressed.textContent = "Selected";
    }
    setTimeout(() => { pressed.textContent = "Copy"; }, 1500);
  });
})();
"""


@lru_cache(maxsize=128)
def formatted(value: str) -> Markup:
    """A text of somebody else's, formatted; and as it is, for whoever wants that instead: `TOGGLE` is there where any
    text on the page has both.

    Kept for a while: a conversation is shown again with every word that is added to its end.
    """
    rendered = markdown.rendered(value, to_copy=True)
    # Where there is nothing to choose between, the text stands there once.
    return (
        Markup(f'<div class="md">{rendered}</div><div class="md-source">{escape(value)}</div>')
        if rendered and not _is_the_same(rendered, value)
        else as_it_is(value)
    )


def _is_the_same(rendered: str, value: str) -> bool:
    """Whether a person reads the very same, formatted or not: paragraphs, and nothing else."""
    words = _PARAGRAPHS.sub(" ", rendered)
    return "<" not in words and unescape(words).split() == value.split()


def as_it_is(value: str) -> Markup:
    return Markup(f'<div class="md-only">{escape(value)}</div>')
