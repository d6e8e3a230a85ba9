"""What every route needs: the services, who calls, and the form of errors."""

import asyncio
from collections.abc import Awaitable
from typing import Annotated, Any, TypeVar

from fastapi import Depends, Request
from fastapi.security import HTTPBearer

from dpo_pipeline.core.redaction import redact
from dpo_pipeline.request_errors import ClientGone
from dpo_pipeline.serving.assembly import Serving
from dpo_pipeline.serving.bodies import ErrorResponse
from dpo_pipeline.serving.services.visitors import Visitor

T = TypeVar("T")
WATCH_AFTER_S = 0.05


async def _serving(request: Request) -> Serving:
    serving: Serving = request.app.state.serving
    return serving


Served = Annotated[Serving, Depends(_serving)]
KEYED = [Depends(HTTPBearer(auto_error=False, description="The value of DPO_KEYS__API, where one is set."))]
"""For `/docs` and clients made from it; `access.Door` has looked at the key before any route is found."""


def visitor(request: Request, serving: Serving, name: str, session_id: str = "", simulated: bool = False) -> Visitor:
    """Whoever calls: see `Visitors.visitor`. `X-Session-Id` names the visit."""
    session = session_id or dict(request.scope["headers"]).get(b"x-session-id", b"")[:200].decode("latin-1")
    return serving.visitors.visitor(request, name, redact(session), "simulated" if simulated else "api")


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The answers of a route that are errors, for its description."""
    return {status: {"model": ErrorResponse} for status in (400, *statuses)}


async def while_connected(request: Request, work: Awaitable[T]) -> T:
    """The result; when the client hangs up first, the work is cancelled and its place becomes free.

    Raises:
        ClientGone: nobody reads the answer any more.
    """
    watcher: asyncio.Task[None] | None = None
    task = asyncio.current_task()

    def watch() -> None:
        nonlocal watcher
        watcher = asyncio.create_task(_cancel_when_gone(request, task))

    # A task costs more than most of the gateway; who is answered within a moment does not hang up.
    timer = asyncio.get_running_loop().call_later(WATCH_AFTER_S, watch)
    try:
        return await work
    except asyncio.CancelledError:
        if watcher and watcher.done() and not watcher.cancelled():
            raise ClientGone("The client hung up before the answer was there.") from None
        raise
    finally:
        timer.cancel()
        if watcher:
            watcher.cancel()


async def _cancel_when_gone(request: Request, task: asyncio.Task[Any] | None) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
    if task:
        task.cancel()
