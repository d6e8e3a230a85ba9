"""Which proxies are believed: what they say of whoever stands behind them, by `access.trusted_proxies`.

Everybody can send the headers of a proxy. They count where the connection itself comes from one that is named; that is
looked at before a forwarded address takes the place of the connection's. Who may do what is asked in `accounts`.
"""

import asyncio
from collections.abc import Callable, Sequence
from functools import lru_cache
from ipaddress import ip_address, ip_network
from typing import cast

from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from dpo_pipeline.request_errors import UntrustedProxy
from dpo_pipeline.serving.access import Answer
from dpo_pipeline.settings import Access


class BehindProxies:
    """ASGI middleware, before everything that asks where a call comes from: refuses a login that nobody vouches for,
    and puts the forwarded address in the place of a trusted proxy's.

    A login from elsewhere is refused, not left out: it is either an attack, or a proxy whose people would all silently
    count as strangers.

    Args:
        answer: sends a refusal.
        note: told what was refused, and to which address.
    """

    def __init__(self, app: ASGIApp, access: Access, answer: Answer, note: Callable[[str, str], None]):
        self._app, self._answer, self._note = app, answer, note
        self._forwarded = ProxyHeadersMiddleware(app, list(access.trusted_proxies))  # type: ignore[arg-type]
        self._trusted, self._header = access.trusted_proxies, access.login_header

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        peer = scope["client"][0] if scope.get("client") else ""
        try:
            self._check_login(scope, peer)
        except UntrustedProxy as error:
            await asyncio.to_thread(self._note, f"sent {self._header} that is not believed", peer)
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1008, "reason": "no trusted proxy"})
            else:
                await self._answer(error, scope, receive, send)
            return
        app = self._forwarded if is_trusted(peer, self._trusted) else self._app
        await cast(ASGIApp, app)(scope, receive, send)

    def _check_login(self, scope: Scope, peer: str) -> None:
        """
        Raises:
            UntrustedProxy: whoever sends it is none, or passes on what came in from outside beside its own.
        """
        if not self._header:
            return
        name = self._header.lower().encode()
        sent = sum(each == name for each, _ in scope["headers"])
        if sent and not is_trusted(peer, self._trusted):
            raise UntrustedProxy(
                f"{self._header} came from {peer or 'an unknown address'}, which is no proxy of this server. If it is "
                "yours, name its address in access.trusted_proxies (DPO_ACCESS__TRUSTED_PROXIES); if not, leave the "
                "header out and send a key."
            )
        if sent > 1:
            raise UntrustedProxy(
                f"{self._header} came {sent} times; one is required. Have the proxy overwrite what comes in under that "
                "name from outside."
            )


@lru_cache(maxsize=4096)
def is_trusted(address: str, proxies: Sequence[str]) -> bool:
    """Whether the address is one of the proxies, or in a network of theirs."""
    try:
        found = ip_address(address)
    except ValueError:
        return False
    return any(found in ip_network(each) for each in proxies)
