"""Pages without Gradio: a form, a message, what is not there yet. One file, no script, light and dark."""

from html import escape

from starlette.responses import HTMLResponse

from dpo_pipeline.serving.content_policy import hash_of, policy
from dpo_pipeline.serving.site_map import PAGES, breadcrumb, head, title_of

STYLE = """
:root { color-scheme: light dark; background: light-dark(#ffffff, #12171d); color: light-dark(#1c2430, #e6eaf0); }
body { font: 1rem/1.5 system-ui, sans-serif; max-width: 34rem; margin: 8vh auto; padding: 0 1rem;
  overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; margin: 0 0 .5rem; }
a { color: light-dark(#4338ca, #a5b4fc); }
.crumbs { font-size: .875rem; margin: 0 0 1rem; color: light-dark(#5a6675, #a3afbd); }
.crumbs ol { display: flex; flex-wrap: wrap; list-style: none; margin: 0; padding: 0; }
.crumbs li + li::before { content: "→"; margin: 0 .4rem; }
label { display: block; font-weight: 600; margin-top: 1rem; }
input { box-sizing: border-box; width: 100%; font: inherit; padding: .5rem; margin-top: .25rem; }
button { font: inherit; font-weight: 600; padding: .5rem 1rem; margin-top: 1rem; border: 0; border-radius: 6px;
  color: #fff; background: #4338ca; cursor: pointer; }
.trouble { border: 1px solid #d92d20; border-left-width: 4px; border-radius: 8px; margin: 1rem 0 0;
  padding: .6rem .8rem; color: light-dark(#b42318, #fda29b); }
.trouble::before { content: "⚠ " / ""; }
"""


POLICY = policy(f"style-src {hash_of(STYLE)}", "img-src data:", "form-action 'self'")
"""The one style and the icon of the site; a form of ours goes to this server."""


def plain_page(title: str, body: str, status: int = 200, description: str = "") -> HTMLResponse:
    """
    Args:
        body: HTML; what people wrote is escaped in it already.
        description: what the page is for, in a sentence; empty: its title says it.
    """
    return HTMLResponse(
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"{head(title_of(title), description or title)}<style>{STYLE}</style></head>"
        f"<body>{breadcrumb(title)}<main><h1>{escape(title)}</h1>{body}</main></body></html>",
        status,
        POLICY,
    )


def trouble(message: str) -> str:
    """What went wrong, as HTML."""
    return f'<p class="trouble" role="alert">{escape(message)}</p>'


def refusal_page(status: int, message: str, pages: bool) -> HTMLResponse:
    """An answer that is none, for whoever looks at it in a browser.

    Args:
        pages: whether there are pages to go on to.
    """
    title = "There is no such page" if status == 404 else "This did not work"
    listed = "".join(
        f'<li><a href="{each.address}">{escape(each.name)}</a>: {escape(each.description)}</li>' for each in PAGES
    )
    there = f"<p>These pages are there:</p><ul>{listed}</ul>" if pages else ""
    return plain_page(title, f"{trouble(message)}{there}", status)
