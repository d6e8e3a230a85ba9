"""What browsers may do with each answer: nothing, unless it is a page; and a page only what it needs.

`Content-Security-Policy` and its neighbours on every answer, refusals too. Dagster's and MLflow's pages have what
`gate` says alone.
"""

from base64 import b64encode
from hashlib import sha256

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dpo_pipeline.gate import HEADERS

NAME = "Content-Security-Policy"
STRICT = "default-src 'none'; frame-ancestors 'none'"
"""Of what is no page: whoever opens it in a browser, or hides one page in it, gets text."""


def policy(*sources: str) -> dict[str, str]:
    """The header of a page of our own, which loads nothing but these sources, and stands in no frame."""
    return {NAME: "; ".join((STRICT, "base-uri 'none'", *sources))}


def hash_of(text: str) -> str:
    """The source that allows this one script or style, as it is."""
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"


class ContentPolicy:
    """ASGI middleware around all others: gives answers the headers that they have not been given.

    Args:
        pages: the policy of HTML that has none of its own, which is Gradio's.
    """

    def __init__(self, app: ASGIApp, pages: str):
        self._app, self._pages = app, pages

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def told(message: Message) -> None:
            if message["type"] == "http.response.start":
                tell_browsers(MutableHeaders(scope=message), self._pages)
            await send(message)

        await self._app(scope, receive, told if scope["type"] == "http" else send)


def tell_browsers(headers: MutableHeaders, pages: str) -> None:
    """Put in what an answer was not given. `pages`: as `ContentPolicy` takes it."""
    given = headers.getlist(NAME)
    if not any("default-src" in each for each in given):
        is_page = headers.get("content-type", "").startswith("text/html")
        headers.append(NAME, pages if is_page else STRICT)
    for name, value in HEADERS.items():
        headers.setdefault(name, value)
    if any("frame-ancestors 'none'" in each for each in headers.getlist(NAME)):
        headers["X-Frame-Options"] = "DENY"
