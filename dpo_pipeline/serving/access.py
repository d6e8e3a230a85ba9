"""What a call must bring: a body that fits, a key where one is asked for; and how often it may come.

Whose key it is, `accounts` knows; under which name the server is called and by whose pages, `gate`.
"""

import threading
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Literal

from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dpo_pipeline.errors import DpoError
from dpo_pipeline.request_errors import BodyTooLarge, ForeignOrigin, KeyRequired, TooManyRequests
from dpo_pipeline.serving.accounts import Accounts
from dpo_pipeline.serving.callers import check_role, is_loopback, network_of
from dpo_pipeline.settings import Limits, Settings

LOOKED_AT = frozenset(
    (b"authorization", b"x-admin-key", b"cookie", b"content-length", b"sec-fetch-mode", b"sec-fetch-site")
)
HEALTH = ("/healthz", "/readyz", "/startupz")
"""Of the program, not of a person: nobody asks whose call it is."""
FORM_BYTES = 4096
"""Largest body of the sign-in form, which holds one key."""
OPEN_PATHS = ("/sign-in", "/sign-out", "/session")
"""Asked for before somebody is known."""
Answer = Callable[[DpoError, Scope, Receive, Send], Awaitable[None]]


class Door:
    """ASGI middleware: finds whose call it is, and refuses it before any of its body is looked at.

    Without a key where one is asked for, with one that allows less, or with too large a body.
    """

    def __init__(self, app: ASGIApp, settings: Settings, accounts: Accounts, answer: Answer):
        self._app, self._settings, self._accounts, self._answer = app, settings, accounts, answer
        self._looked_at = LOOKED_AT | {settings.access.login_header.lower().encode()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            headers = {name: _text(value) for name, value in scope["headers"] if name in self._looked_at}
            if scope["method"] != "OPTIONS":
                await self._admit(scope, headers)
            limit = self._settings.limits.body_bytes
            if scope["path"] == "/sign-in":
                limit = min(limit, FORM_BYTES)
            length = headers.get(b"content-length", "")
            if length.isdigit() and int(length) > limit:
                raise BodyTooLarge(_too_large(limit))
            await self._app(scope, _bounded(receive, limit), send)
        except KeyRequired as error:
            if headers.get(b"sec-fetch-mode") == "navigate":
                await RedirectResponse("/sign-in", 303)(scope, receive, send)
                return
            await self._answer(error, scope, receive, send)
        except DpoError as error:  # a file of keys that cannot be read, too: then nobody is let in
            await self._answer(error, scope, receive, send)

    async def _admit(self, scope: Scope, headers: Mapping[bytes, str]) -> None:
        """Note whose call it is.

        Raises:
            KeyRequired: of nobody that is known, where somebody has to be.
            RoleRequired: of somebody who may only look.
        """
        path, in_api = scope["path"], scope["path"].startswith("/v1/")
        if path in HEALTH:
            return
        linked = headers.get(b"sec-fetch-mode") == "navigate"
        if in_api and linked and headers.get(b"sec-fetch-site") in ("cross-site", "same-site"):
            # Pages of other sites may link to our pages, and to nothing else: there may be a session in the browser.
            raise ForeignOrigin("A page of another site links to the API. Open it from a page of this one.")
        address = scope["client"][0] if scope.get("client") else ""
        account = await self._accounts.identify(headers, address, in_api)
        scope.setdefault("state", {})["account"] = account
        if account is None:
            if in_api and self._settings.keys.api is not None:
                raise KeyRequired(
                    "This server wants a key. Send `Authorization: Bearer …` with the value of DPO_KEYS__API, or with "
                    "a key that `dpo keys add` made."
                )
            if self._settings.access.sign_in == "required" and path not in OPEN_PATHS:
                raise KeyRequired("This server wants to know who calls. Sign in at /sign-in, or send your key.")
        elif in_api and scope["method"] not in ("GET", "HEAD"):
            check_role(account, "rater")


Key = tuple[str, str]
"""What is counted together: the kind of call, and whose it is."""


class RateLimits:
    """Calls a minute, by person and by address: this minute's, and the share of the last one's that still counts.

    In memory; what a minute forgets is gone. Of several servers, `shared_rates` adds up what each has counted.

    Args:
        clock: seconds. Servers that add up have to agree on when a minute begins.
    """

    def __init__(self, limits: Limits, clock: Callable[[], float] = time.monotonic):
        # Products send what people do with each answer: that must not use up what they may say.
        self._amounts = {
            "answers": limits.answers_per_minute,
            "votes": limits.votes_per_minute,
            "actions": limits.answers_per_minute,
        }
        self._address_amount = limits.address_per_minute
        self._clock, self._lock = clock, threading.Lock()
        self._minute = 0
        self._now: dict[Key, int] = {}
        self._before: dict[Key, int] = {}
        # Of `_now`, what other servers know of already, be it theirs or ours.
        self._told: dict[Key, int] = {}

    def check(self, kind: Literal["answers", "votes", "actions"], person: str, address: str) -> None:
        """Count one call.

        Raises:
            TooManyRequests: it is not counted.
        """
        amount = self._amounts[kind]
        if not self._hit((kind, person), amount):
            raise TooManyRequests(f"More than {amount} {kind} in a minute from one person. Wait a little.")
        if not is_loopback(address) and not self._hit(("address", network_of(address)), self._address_amount):
            raise TooManyRequests(f"More than {self._address_amount} calls in a minute from {address}. Wait a little.")

    def counted(self) -> tuple[int, dict[Key, int]]:
        """This minute, and the calls in it that were not `told` yet."""
        with self._lock:
            self._turn()
            untold = {key: count - self._told.get(key, 0) for key, count in self._now.items()}
            return self._minute, {key: count for key, count in untold.items() if count}

    def told(self, minute: int, counted: Mapping[Key, int], everywhere: Mapping[Key, int]) -> None:
        """What was `counted` is in the sum of all servers now, and this is that sum."""
        with self._lock:
            if minute != self._minute:
                return
            for key, count in everywhere.items():
                since = self._now.get(key, 0) - self._told.get(key, 0) - counted.get(key, 0)
                self._now[key], self._told[key] = count + since, count

    def _turn(self) -> float:
        """Begin a new minute where one has begun; returns how much of it is over."""
        minute, part = divmod(self._clock() / 60, 1)
        if minute != self._minute:
            self._before = self._now if minute == self._minute + 1 else {}
            self._now, self._told, self._minute = {}, {}, int(minute)
        return part

    def _hit(self, key: Key, amount: int) -> bool:
        with self._lock:
            part = self._turn()
            if self._now.get(key, 0) + self._before.get(key, 0) * (1 - part) >= amount:
                return False
            self._now[key] = self._now.get(key, 0) + 1
            return True


def _text(value: bytes) -> str:
    """As browsers and programs send it; older proxies send Latin-1."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


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
