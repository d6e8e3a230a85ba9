"""The gate in front of every program that browsers reach: under which names it is called, and by whose pages.

Whatever page somebody has open can send requests to this machine. Programs say nothing of pages and are let through;
browsers say whose page it is, by `Origin` and `Sec-Fetch-Site`, and under which name it was found, by `Host`. Serving,
Dagster and MLflow stand behind this same gate. Who somebody is, is asked elsewhere: `serving.access`.
"""

import socket
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dpo_pipeline.request_errors import ForeignOrigin
from dpo_pipeline.settings import Access, Settings

OWN_NAMES = ("localhost", socket.gethostname().lower())
LOADING = ("GET", "HEAD")
LOOKED_AT = (b"host", b"origin", b"sec-fetch-site", b"sec-fetch-mode", b"sec-fetch-dest")
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "X-Frame-Options": "SAMEORIGIN",
    "Cross-Origin-Opener-Policy": "same-origin",
}
"""On every answer, unless the program sends its own."""
POLICY = "frame-ancestors 'self'; object-src 'none'; base-uri 'self'"
"""Beside the content policy of the program, if it has one: a browser keeps to both."""
AnswerForeign = Callable[[ForeignOrigin, Scope, Receive, Send], Awaitable[None]]


@dataclass(frozen=True)
class Caller:
    """What a browser says of a call; what it does not say is empty."""

    method: str
    host: str = ""
    origin: str = ""
    site: str = ""
    mode: str = ""
    dest: str = ""

    @classmethod
    def of(cls, scope: Scope) -> "Caller":
        """Of an HTTP request, or of the one that opens a websocket."""
        said = {name: value.decode("latin-1") for name, value in scope["headers"] if name in LOOKED_AT}
        return cls(scope.get("method", "WEBSOCKET"), *(said.get(name, "") for name in LOOKED_AT))


def check_caller(caller: Caller, access: Access, own: str = "") -> None:
    """
    Args:
        own: the name or address that this program listens on.

    Raises:
        ForeignOrigin: it comes from a page of another site that `access` does not name, or under another's name.
    """
    name = hostname(caller.host)
    if caller.host and not (_is_ours(name) or name == own.lower() or name in _names(access)):
        # Another site's name can be made to point here (DNS rebinding): its pages would then be of the same origin.
        raise ForeignOrigin(
            f"This machine was called {name}, which is none of its names. Add the name to access.hosts "
            "(DPO_ACCESS__HOSTS) if it is."
        )
    if caller.origin in access.origins:
        return
    if caller.origin and caller.origin.partition("://")[2] != caller.host:
        raise ForeignOrigin(_foreign(caller.origin, caller.host))
    follows_link = caller.method in LOADING and caller.mode == "navigate" and caller.dest == "document"
    if caller.site in ("cross-site", "same-site") and not follows_link:
        raise ForeignOrigin(_foreign("another site", caller.host))


class WebGate:
    """ASGI middleware: refuses calls of foreign pages, and tells browsers what pages of this program may do.

    Args:
        answer: sends a refusal; null: as plain text.
        tells: false where a program tells browsers by itself, on every answer.
    """

    def __init__(self, app: ASGIApp, settings: Settings, answer: AnswerForeign | None = None, tells: bool = True):
        self._app, self._answer, self._tells = app, answer or _as_text, tells
        self._access, self._own = settings.access, settings.ports.host

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        told = with_headers(send, HEADERS) if self._tells and scope["type"] == "http" else send
        try:
            check_caller(Caller.of(scope), self._access, self._own)
            await self._app(scope, receive, told)
        except ForeignOrigin as error:
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1008, "reason": "a page of another site"})
            else:
                await self._answer(error, scope, receive, told)


def with_headers(send: Send, headers: Mapping[str, str]) -> Send:
    """Sends the same, with these headers where the program has none of its own, and with `POLICY`."""

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            found = MutableHeaders(scope=message)
            for name, value in headers.items():
                found.setdefault(name, value)
            found.append("Content-Security-Policy", POLICY)
        await send(message)

    return sending


async def _as_text(error: ForeignOrigin, scope: Scope, receive: Receive, send: Send) -> None:
    body = f"{error}\n".encode()
    head = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": error.status, "headers": head})
    await send({"type": "http.response.body", "body": body})


def _foreign(caller: str, host: str) -> str:
    return (
        f"A page of {caller} called {host}. Only pages of this host and of access.origins may; add it there "
        "(DPO_ACCESS__ORIGINS) if it is yours."
    )


def _names(access: Access) -> set[str]:
    """Beside its own: those it is given, and those of the origins under which proxies show it."""
    return set(access.hosts) | {hostname(urlsplit(origin).netloc) for origin in access.origins}


def hostname(host: str) -> str:
    """Without the port and the brackets of an IPv6 address."""
    try:
        return (urlsplit(f"//{host}").hostname or "").rstrip(".")
    except ValueError:
        return "?"


def _is_ours(name: str) -> bool:
    """An address, or this machine's own name."""
    try:
        ip_address(name)
    except ValueError:
        return name in OWN_NAMES or name.endswith(".localhost")
    return True
