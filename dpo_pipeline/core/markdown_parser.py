"""The parser behind `core.markdown`, and how it writes HTML: no HTML of the text's own, no image, no link."""

from collections.abc import Sequence
from html import escape
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token

from dpo_pipeline.core import formulas

FIRST_HEADING = 3
"""Pages have two levels of headings of their own."""
_AS_WRITTEN, _COPY = "formulas as written", "behind the language of a block of code"


def parsed(value: str) -> list[Token]:
    return _PARSER.parse(value)


def html(tokens: Sequence[Token], copy: str, as_written: bool = False) -> str:
    """
    Args:
        copy: stands behind the language of each block of code.
        as_written: formulas stay the TeX that they are.
    """
    return str(_PARSER.renderer.render(tokens, _PARSER.options, {_AS_WRITTEN: as_written, _COPY: copy}))


def has_formulas(tokens: Sequence[Token]) -> bool:
    return any(child.type in (formulas.INLINE, formulas.BLOCK) for each in tokens for child in each.children or ())


class _Inert(RendererHTML):
    """Headings below those of the page; code and tables in boxes that scroll by themselves."""

    def heading_open(self, tokens: Sequence[Token], place: int, options: Any, env: Any) -> str:
        return f"<{_lowered(tokens[place].tag)}>"

    def heading_close(self, tokens: Sequence[Token], place: int, options: Any, env: Any) -> str:
        return f"</{_lowered(tokens[place].tag)}>"

    def list_item_open(self, tokens: Sequence[Token], place: int, options: Any, env: Any) -> str:
        number = tokens[place].info  # as it was written, also where Markdown would count on
        return f'<li value="{number}">' if number else "<li>"

    def table_open(self, tokens: Sequence[Token], place: int, options: Any, env: Any) -> str:
        return '<div class="md-wide" tabindex="0" role="region" aria-label="Table"><table>'

    def table_close(self, tokens: Sequence[Token], place: int, options: Any, env: Any) -> str:
        return "</table></div>"

    def fence(self, tokens: Sequence[Token], place: int, options: Any, env: Any) -> str:
        code = tokens[place]
        return (
            f'<div class="md-code"><div><span>{escape(code.info.strip())}</span>{env[_COPY]}</div>'
            f'<pre tabindex="0" role="group" aria-label="Code"><code>{escape(code.content)}</code></pre></div>'
        )


def _formula(self: RendererHTML, tokens: Sequence[Token], place: int, options: Any, env: dict[str, Any]) -> str:
    tex, block = tokens[place].content, tokens[place].type == formulas.BLOCK
    made = formulas.as_written(tex) if env[_AS_WRITTEN] else formulas.mathml(tex.strip(), block)
    return f'<span class="md-math">{made}</span>' if block else made


def _lowered(tag: str) -> str:
    return f"h{min(int(tag[1]) + FIRST_HEADING - 1, 6)}"


_PARSER = (
    MarkdownIt("commonmark", {"html": False, "breaks": True}, renderer_cls=_Inert)
    .use(formulas.formulas)
    .enable(["table", "strikethrough"])
    .disable(["image", "link", "autolink", "reference", "html_inline", "html_block", "code", "entity"])
)
for _kind in (formulas.INLINE, formulas.BLOCK):
    _PARSER.add_render_rule(_kind, _formula)
