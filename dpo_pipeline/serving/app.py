"""The serving program: routes and pages on one application, and what they stand on."""

import asyncio
import ctypes
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import JSONResponse
from fastapi.telemetry import TelemetryConfig
from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope, Send

from dpo_pipeline import __version__
from dpo_pipeline.errors import DatabaseUnavailable, DpoError, LogWriteError
from dpo_pipeline.gate import WebGate
from dpo_pipeline.in_words import requirement
from dpo_pipeline.request_errors import RequestError
from dpo_pipeline.serving.access import Door
from dpo_pipeline.serving.accounts import Accounts
from dpo_pipeline.serving.assembly import Serving, assemble, make_engine
from dpo_pipeline.serving.bodies import UNFORESEEN
from dpo_pipeline.serving.content_policy import ContentPolicy, tell_browsers
from dpo_pipeline.serving.engines.engine import Engine
from dpo_pipeline.serving.metrics import CallMetrics, Metrics
from dpo_pipeline.serving.page_queue import PageQueue
from dpo_pipeline.serving.pages.site import POLICY, forget_closed_tabs, mount_pages
from dpo_pipeline.serving.plain_page import refusal_page
from dpo_pipeline.serving.proxies import BehindProxies
from dpo_pipeline.serving.routes import (
    chat,
    comparisons,
    feedback,
    health,
    preferences,
    reports,
    rollout,
    sign_in,
    site,
    version_pages,
    versions,
)
from dpo_pipeline.serving.routes.docs import add_docs
from dpo_pipeline.serving.services.comparison_tokens import forget_expired
from dpo_pipeline.settings import Settings

if TYPE_CHECKING:
    from gradio import Blocks

log = logging.getLogger(__name__)
FORGET_EVERY_S = 300
SHOWN_PROBLEMS = 20


def create_app(settings: Settings, engine: Engine | None = None) -> FastAPI:
    """The application; what it stands on starts and stops with its lifespan.

    Args:
        engine: where answers come from; null: as the settings say.
    """
    metrics, accounts = Metrics(), Accounts(settings)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        serving = assemble(settings, metrics, engine or make_engine(settings), accounts)
        app.state.serving = serving
        serving.start()
        # A log of a million votes takes seconds to count; nobody has to wait for that.
        counting = asyncio.create_task(asyncio.to_thread(serving.tally.refresh))
        forgetting = asyncio.create_task(_forget_expired(serving, pages))
        try:
            yield
        finally:
            forgetting.cancel()
            await counting
            await serving.close()

    # What is measured here goes to Prometheus; looking for OpenTelemetry would cost every call.
    off: TelemetryConfig = {"tracing": False, "metrics": False, "logs": False}
    app = FastAPI(
        title="The HTTP API",
        version=__version__,
        lifespan=lifespan,
        telemetry=off,
        docs_url=None,  # see `add_docs`
        redoc_url=None,
    )
    app.add_exception_handler(DpoError, _answer_error)
    app.add_exception_handler(RequestValidationError, _answer_invalid)
    app.add_exception_handler(HTTPException, _answer_http)
    app.add_exception_handler(Exception, _answer_unforeseen)
    chat.add_completions(app.router)
    for part in (chat, comparisons, feedback, preferences, rollout, versions, health, sign_in):
        app.include_router(part.router)
    add_docs(app)
    if settings.access.pages:
        for part in (version_pages, reports, site):
            app.include_router(part.router)
    app.state.pages = settings.access.pages
    pages = mount_pages(app, settings, lambda: app.state.serving) if settings.access.pages else None
    if pages:
        app.add_middleware(PageQueue, site=pages, limits=settings.limits, answer=_refuse)
    app.add_middleware(Door, settings=settings, accounts=accounts, answer=_refuse)
    app.add_middleware(BehindProxies, access=settings.access, answer=_refuse, note=accounts.note_refused)
    app.add_middleware(WebGate, settings=settings, answer=_refuse, tells=False)  # `ContentPolicy` does
    if settings.access.origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.access.origins,
            allow_methods=["GET", "POST"],
            allow_headers=["*"],  # OpenAI's client for browsers sends a dozen of its own
        )
    app.add_middleware(CallMetrics, metrics=metrics)
    app.add_middleware(ContentPolicy, pages=POLICY)
    return app


async def _forget_expired(serving: Serving, pages: "Blocks | None") -> None:
    """A server that runs for months must not keep what nobody can vote on, rate, or look at any more."""
    while True:
        await asyncio.sleep(FORGET_EVERY_S)
        try:
            if pages:
                forget_closed_tabs(pages)
            await asyncio.to_thread(forget_expired, serving.state, serving.settings.collection)
            await asyncio.to_thread(serving.texts.expire, datetime.now(UTC).date())
            await asyncio.to_thread(return_memory)
        except Exception:
            log.exception("what has expired was not forgotten; tried again in %d s", FORGET_EVERY_S)


def return_memory() -> None:
    """Give freed memory back to the system; glibc keeps the holes, and a server that people look at grows for hours."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim:
        trim(0)


async def _answer_error(request: Request, error: Exception) -> Response:
    """Our errors in OpenAI's form; what is not the client's doing is logged."""
    again = None
    if isinstance(error, DpoError) and error.retry_after_s is not None:
        again = {"Retry-After": str(error.retry_after_s)}
    if isinstance(error, RequestError):
        kind = "invalid_request_error" if error.status < 500 else "server_error"
        return _error(request, error.status, str(error), kind, error.code, again)
    log.error("%s %s failed: %s", request.method, request.url.path, error)
    if isinstance(error, LogWriteError):
        return _error(request, 507, error.outside(), "server_error", "not_recorded", again)
    if isinstance(error, DatabaseUnavailable):
        return _error(request, 503, error.outside(), "server_error", "database_unavailable", again)
    assert isinstance(error, DpoError)
    return _error(request, 500, error.outside(), "server_error", "failed")


async def _answer_unforeseen(request: Request, error: Exception) -> Response:
    """In OpenAI's form too; the program's log has the trace."""
    answer = _error(request, 500, UNFORESEEN, "server_error", "unforeseen")
    tell_browsers(answer.headers, POLICY)  # Starlette sends this one past every middleware
    return answer


async def _refuse(error: DpoError, scope: Scope, receive: Receive, send: Send) -> None:
    response = await _answer_error(Request(scope), error)
    await response(scope, receive, send)


async def _answer_invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    found = error.errors()
    problems = "; ".join(
        f"{'.'.join(map(str, item['loc'][1:]))}: {requirement(item['msg'])}" for item in found[:SHOWN_PROBLEMS]
    )
    if len(found) > SHOWN_PROBLEMS:
        problems += f"; and {len(found) - SHOWN_PROBLEMS} more"
    return _error(request, 400, f"The request is not valid: {problems}", "invalid_request_error", "invalid_request")


async def _answer_http(request: Request, error: Exception) -> Response:
    """Unknown paths and methods, and bodies that cannot be read, in the same form as everything else."""
    assert isinstance(error, HTTPException)
    if isinstance(error.__cause__, RequestError):  # our own refusal, met while the body was read
        return await _answer_error(request, error.__cause__)
    found = "there is nothing at this address" if error.status_code == 404 else error.detail
    message = f"{request.method} {request.url.path}: {found}. /docs lists what can be asked."
    code = "not_found" if error.status_code in (404, 405) else "invalid_request"
    return _error(request, error.status_code, message, "invalid_request_error", code, error.headers)


def _error(
    request: Request, status: int, message: str, kind: str, code: str, headers: Mapping[str, str] | None = None
) -> Response:
    """For programs in OpenAI's form; whoever follows a link in a browser gets a page."""
    if request.method in ("GET", "HEAD") and "text/html" in request.headers.get("accept", ""):
        answer: Response = refusal_page(status, message, request.app.state.pages)
        answer.headers.update(headers or {})
        return answer
    return JSONResponse({"error": {"message": message, "type": kind, "code": code}}, status, headers)
