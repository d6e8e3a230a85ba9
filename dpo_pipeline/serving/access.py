"""Who may call: body size, API key, and how often. Nothing here knows what a call does; pages are `gate`'s."""

import hmac
import time
from collections.abc import Awaitable, Callable
from functools import lru_cache
from ipaddress import ip_address
from typing import Any, Literal

from pydantic import SecretStr
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dpo_pipeline.errors import AdminOnly, BodyTooLarge, KeyRequired, RequestError, TooManyRequests
from dpo_pipeline.settings import Limits, Settings

LOOKED_AT = (b"authorization", b"content-length")
Answer = Callable[[RequestError, Scope, Receive, Send], Awaitable[None]]


class Door:
    """ASGI middleware: refuses a call without the key, or with too large a body, before any of it is looked at."""

    def __init__(self, app: ASGIApp, settings: Settings, answer: Answer):
        self._app, self._settings, self._answer = app, settings, answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            headers = {name: value.decode("latin-1") for name, value in scope["headers"] if name in LOOKED_AT}
            if scope["path"].startswith("/v1/") and scope["method"] != "OPTIONS":
                check_key(headers.get(b"authorization"), self._settings.keys.api)
            limit, length = self._settings.limits.body_bytes, headers.get(b"content-length", "")
            if length.isdigit() and int(length) > limit:
                raise BodyTooLarge(_too_large(limit))
            await self._app(scope, _bounded(receive, limit), send)
        except RequestError as error:
            await self._answer(error, scope, receive, send)


def check_key(authorization: str | None, key: SecretStr | None) -> None:
    """
    Raises:
        KeyRequired: a key is set and the call does not carry it.
    """
    if key is not None and not _same(authorization, key):
        raise KeyRequired("This server wants a key. Send `Authorization: Bearer …` with the value of DPO_KEYS__API.")


def check_admin(given: str | None, key: SecretStr | None) -> None:
    """
    Raises:
        AdminOnly: no admin key is set, or the call does not carry it.
    """
    if key is None:
        raise AdminOnly("No admin key is set, so nobody may do this here. Start the server with DPO_KEYS__ADMIN.")
    if not _same(given, key):
        raise AdminOnly(
            "The admin key is wrong or missing. Give the value of DPO_KEYS__ADMIN; a program sends it as `X-Admin-Key`."
        )


def check_reviewer(given: str | None, key: SecretStr | None, address: str) -> None:
    """Without an admin key a person at the machine may do it.

    Raises:
        AdminOnly: the key is wrong, or none is set and the call came from elsewhere.
    """
    if key is None and not _is_loopback(address):
        raise AdminOnly(
            "No admin key is set, so only a person at this machine may. Start the server with DPO_KEYS__ADMIN."
        )
    if key is not None:
        check_admin(given, key)


def address_of(request: Any) -> str:
    """Where a call came from, for requests of FastAPI and of the pages alike."""
    return request.client.host if request is not None and request.client else "unknown"


class RateLimits:
    """Calls a minute, by person and by address: this minute's, and the share of the last one's that still counts.

    In memory and of one server; what a minute forgets is gone.
    """

    def __init__(self, limits: Limits, clock: Callable[[], float] = time.monotonic):
        self._amounts = {"answers": limits.answers_per_minute, "votes": limits.votes_per_minute}
        self._address_amount = limits.address_per_minute
        self._clock = clock
        self._minute = 0
        self._now: dict[tuple[str, str], int] = {}
        self._before: dict[tuple[str, str], int] = {}

    def check(self, kind: Literal["answers", "votes"], person: str, address: str) -> None:
        """Count one call.

        Raises:
            TooManyRequests: it is not counted.
        """
        amount = self._amounts[kind]
        if not self._hit((kind, person), amount):
            raise TooManyRequests(f"More than {amount} {kind} in a minute from one person. Wait a little.")
        if not _is_loopback(address) and not self._hit(("address", address), self._address_amount):
            raise TooManyRequests(f"More than {self._address_amount} calls in a minute from {address}. Wait a little.")

    def _hit(self, key: tuple[str, str], amount: int) -> bool:
        minute, part = divmod(self._clock() / 60, 1)
        if minute != self._minute:
            self._before = self._now if minute == self._minute + 1 else {}
            self._now, self._minute = {}, int(minute)
        if self._now.get(key, 0) + self._before.get(key, 0) * (1 - part) >= amount:
            return False
        self._now[key] = self._now.get(key, 0) + 1
        return True


def _same(given: str | None, key: SecretStr) -> bool:
    token = (given or "").removeprefix("Bearer ").strip()
    return hmac.compare_digest(token.encode(), key.get_secret_value().encode())


@lru_cache(maxsize=4096)
def _is_loopback(address: str) -> bool:
    try:
        return ip_address(address).is_loopback
    except ValueError:
        return False


def _too_large(limit: int) -> str:
    return f"The body is larger than {limit} bytes (limits.body_bytes). Send less."


def _bounded(receive: Receive, limit: int) -> Receive:
    """Counts a body that came without its length."""
    seen = 0

    async def counted() -> Message:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        if seen > limit:
            raise BodyTooLarge(_too_large(limit))
        return message

    return counted
