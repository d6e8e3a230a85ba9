"""Pages without Gradio: a form, a message, what is not there yet. One file, no script, light and dark."""

from html import escape

STYLE = """
:root { color-scheme: light dark; background: light-dark(#ffffff, #12171d); color: light-dark(#1c2430, #e6eaf0); }
body { font: 1rem/1.5 system-ui, sans-serif; max-width: 34rem; margin: 12vh auto; padding: 0 1rem;
  overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; margin: 0 0 .5rem; }
a { color: light-dark(#4338ca, #a5b4fc); }
label { display: block; font-weight: 600; margin-top: 1rem; }
input { box-sizing: border-box; width: 100%; font: inherit; padding: .5rem; margin-top: .25rem; }
button { font: inherit; font-weight: 600; padding: .5rem 1rem; margin-top: 1rem; border: 0; border-radius: 6px;
  color: #fff; background: #4338ca; cursor: pointer; }
.trouble { border-left: 4px solid #d33a2c; padding: .25rem .75rem; margin: 1rem 0 0; }
"""


def plain_page(title: str, body: str) -> str:
    """
    Args:
        body: HTML; what people wrote is escaped in it already.
    """
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head>"
        f"<body><main><h1>{escape(title)}</h1>{body}</main></body></html>"
    )
