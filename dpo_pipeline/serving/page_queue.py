"""How many pages may be open, and how much they may leave unread: of one address, and of all together.

Gradio keeps 0.3 MB for each id of a page that anybody sends, and every answer of its queue until somebody reads it.
Its own tables say what it holds; whose that is, is kept here.
"""

import json
import time
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dpo_pipeline.request_errors import InvalidRequest, PagesFull, RequestError, TooManyRequests
from dpo_pipeline.serving.access import Answer
from dpo_pipeline.serving.callers import network_of
from dpo_pipeline.settings import Limits

if TYPE_CHECKING:
    from gradio import Blocks

CALLS, JOIN = "/gradio_api/", "/gradio_api/queue/join"
LONGEST_ID = 100
MOST_PARTS = 20_000
"""Values in a call. Gradio looks at each of them while everybody waits, 7 ms for a thousand; a page sends a few, and a
long chat a few thousand.
"""
MOST_UNREAD, MOST_UNREAD_TOGETHER = 200, 2_000
"""Answers that wait to be read, of one address and of all: a person leaves a few when a connection is lost."""
IN_USE_S = 60.0
"""Open pages ask at least that often. One that has not makes room for a new one."""

BEGINS_S = 300.0
"""Within this, Gradio has begun with the first call of a page, and holds it from then on."""


class PageQueue:
    """ASGI middleware before Gradio, behind the door: counts pages by what their calls say, and refuses too many."""

    def __init__(self, app: ASGIApp, site: "Blocks", limits: Limits, answer: Answer):
        self._app, self._answer = app, answer
        self._holder: Any = site.state_holder
        self._unread: dict[str, set[str]] = site._queue.pending_event_ids_session
        self._messages: Any = site._queue.pending_messages_per_session
        self._most, self._most_of_one = limits.open_pages, limits.open_pages_per_address
        self._whose: dict[str, str] = {}
        self._met: dict[str, float] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST" or not scope["path"].startswith(CALLS):
            await self._app(scope, receive, send)
            return
        body, received = await _whole(receive)
        try:
            page = _page_of(body)
            if page:
                self._admit(page, network_of(scope["client"][0] if scope.get("client") else ""))
                if scope["path"].rstrip("/") == JOIN:
                    self._check_unread(self._whose[page])
        except RequestError as error:
            await self._answer(error, scope, receive, send)
            return
        await self._app(scope, received, send)

    def _admit(self, page: str, network: str) -> None:
        """Note whose page it is.

        Raises:
            TooManyRequests, PagesFull: it is a new one, and one too many.
        """
        if page in self._whose and page in self._holder.session_data:
            return
        self._forget()
        of_one = sum(whose == network for each, whose in self._whose.items() if each != page)
        if of_one >= self._most_of_one:
            raise TooManyRequests(
                f"{of_one} pages are open from {network}, which is the most (limits.open_pages_per_address). "
                "Close some; their places are free a few minutes later."
            )
        if len(self._whose) >= self._most and not self._make_room():
            raise PagesFull(f"{self._most} pages are in use, which is the most (limits.open_pages). Try again shortly.")
        self._whose[page], self._met[page] = network, time.monotonic()

    def _check_unread(self, network: str) -> None:
        """
        Raises:
            TooManyRequests, PagesFull: answers wait that nobody reads.
        """
        waiting = sum(len(self._unread.get(page, ())) for page, whose in self._whose.items() if whose == network)
        if waiting >= MOST_UNREAD:
            raise TooManyRequests(
                f"{waiting} answers of pages wait for {network}, and nobody reads them. "
                "Reload the page, or wait a little."
            )
        if sum(map(len, self._unread.values())) >= MOST_UNREAD_TOGETHER:
            raise PagesFull(f"{MOST_UNREAD_TOGETHER} answers of pages wait to be read. Try again shortly.")

    def _forget(self) -> None:
        """What Gradio let go of is nobody's; and what it keeps of such a page, its unread answers, goes too."""
        before, held = time.monotonic() - BEGINS_S, self._holder.session_data
        for page in [each for each, met in self._met.items() if met < before and each not in held]:
            self._drop(page)

    def _make_room(self) -> bool:
        """Drop the page that was used longest ago, unless it is in use."""
        oldest = max(self._whose, key=self._unused_s)
        if self._unused_s(oldest) < IN_USE_S:
            return False
        self._drop(oldest)
        return True

    def _unused_s(self, page: str) -> float:
        used = self._holder.time_last_used.get(page)
        if used is None:  # Gradio has not begun with it
            return time.monotonic() - self._met[page]
        unused: timedelta = datetime.now() - used  # as Gradio notes it
        return unused.total_seconds()

    def _drop(self, page: str) -> None:
        for table in (
            self._whose,
            self._met,
            self._holder.session_data,
            self._holder.time_last_used,
            self._unread,
            self._messages,
        ):
            table.pop(page, None)


async def _whole(receive: Receive) -> tuple[bytes, Receive]:
    """The body, which the door has bounded, and what gives it once more."""
    parts: list[bytes] = []
    messages: list[Message] = []
    more = True
    while more:
        message = await receive()
        messages.append(message)
        parts.append(message.get("body", b""))
        more = message.get("more_body", False)
    left = iter(messages)

    async def again() -> Message:
        found = next(left, None)
        return await receive() if found is None else found

    return b"".join(parts), again


def _page_of(body: bytes) -> str:
    """The id that the page sends, read as Gradio reads it; empty: none, or nothing that Gradio takes.

    Raises:
        InvalidRequest: no page of ours sends such a one.
    """
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return ""
    if _has_more_parts(found, MOST_PARTS):
        raise InvalidRequest(f"The call holds more than {MOST_PARTS:,} values. Reload the page.")
    page = found.get("session_hash") if isinstance(found, dict) else None
    if not isinstance(page, str):
        return ""
    if len(page) > LONGEST_ID:
        raise InvalidRequest(f"session_hash has {len(page)} characters; {LONGEST_ID} are the most. Reload the page.")
    return page


def _has_more_parts(found: Any, most: int) -> bool:
    """Whether more values than that stand in lists and objects, at whatever depth."""
    waiting, seen = [found], 0
    while waiting and seen <= most:
        each = waiting.pop()
        if isinstance(each, list | dict):
            seen += len(each)
            waiting += each.values() if isinstance(each, dict) else each
    return seen > most
