"""The pages as one site, on the application that serves the API."""

import warnings
from collections.abc import Callable
from datetime import datetime, timedelta
from importlib import import_module
from typing import TYPE_CHECKING

from fastapi import FastAPI
from starlette.routing import Match, Mount
from starlette.types import Scope

from dpo_pipeline import gate
from dpo_pipeline.serving.assembly import Serving
from dpo_pipeline.serving.pages.gradio_import import import_gradio
from dpo_pipeline.serving.site_map import HOME, PAGES
from dpo_pipeline.settings import Settings

if TYPE_CHECKING:
    from gradio import Blocks

CLOSED_FOR, LEFT_FOR = timedelta(minutes=5), timedelta(hours=12)
"""A tab may lose its connection for a moment and come back; and one may be open all day with nobody before it."""
MOST_TABS = 1_000
"""Of 0.3 MB each; the one that was used longest ago makes room, and its page goes on from what the tab keeps."""
QUEUE_EVERY_S, PROGRESS_EVERY_S = 0.05, 1.0
"""The first as Gradio has it on Windows: a click waits half of it on average, which nobody notices. No page here shows
Gradio's progress bars."""
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; worker-src 'self' blob:; form-action 'self'; "
    f"{gate.POLICY}"
)
"""Nothing from elsewhere is loaded, sent or shown. Gradio writes its scripts and styles into the page."""
# What Gradio answers besides the pages. Every other path gets an answer of ours, in the API's words or as a page.
GRADIO = ("/config", "/assets/", "/static/", "/theme.css", "/gradio_api/")
# Of these, what Gradio brings along and no page of ours uses: uploads, a proxy, files, a second way to call functions.
SHUT = tuple(
    f"/gradio_api/{name}"
    for name in (
        *("api/", "call/", "custom_component", "deep_link", "dev/", "file", "info", "openapi.json"),
        *("process_recording", "profiling", "proxy=", "run/", "stream", "token", "undo-vibe", "upload", "vibe"),
    )
)

UNQUEUED = "/gradio_api/run/predict"
"""Where Gradio asks for what answers at once; it answers for events without queue only (`api_open`)."""


def mount_pages(app: FastAPI, settings: Settings, serving: Callable[[], Serving]) -> "Blocks":
    """Put the site on the application.

    Args:
        serving: asked while the app runs; before and after there is none.
    """
    gr = import_gradio()
    from gradio.components.navbar import Navbar

    from dpo_pipeline.serving.pages import ab_layout, ab_style, chat, markdown, review_keys, select, theme
    from dpo_pipeline.serving.pages.page_head import give_heads

    give_heads()
    site: Blocks = gr.Blocks(title=HOME.title, analytics_enabled=False, fill_width=True)
    for page in PAGES[1:]:
        site.route(page.name, page.address)
    with site:  # once: at each end of it, Gradio builds the whole application
        for page in PAGES:
            site.current_page = page.path
            Navbar(main_page_name=HOME.name)
            gr.HTML(theme.heading(page))
            import_module(f"{__package__}.{page.module}").build(serving)
            gr.HTML(theme.consent(settings.access.consent))
    site.state_session_capacity = MOST_TABS
    site.queue(default_concurrency_limit=None, api_open=False)
    # Gradio looks a thousand times a second whether somebody clicked, and a hundred times whether a progress bar moved,
    # which takes 6 % of a core all day long.
    site._queue.sleep_when_free = QUEUE_EVERY_S
    site._queue.progress_update_sleep_when_free = PROGRESS_EVERY_S
    with warnings.catch_warnings():
        # Gradio says that it switches off what was never switched on.
        warnings.filterwarnings("ignore", "SSR mode is not supported", UserWarning)
        gr.mount_gradio_app(
            app,
            site,
            path="/",
            footer_links=[],
            run_history=False,
            ssr_mode=False,
            mcp_server=False,
            enable_monitoring=False,
            theme=theme.theme(),
            css=theme.CSS + select.STYLE + ab_style.CSS,
            head=(
                f"<style>{theme.FRAME}{markdown.STYLE}</style>"
                f"<script>{theme.STARTUP}{theme.WHO}{ab_layout.KEYS}{ab_layout.PRESSES}{chat.PRESSES}"
                f"{review_keys.KEYS}{markdown.SCRIPT}</script>"
            ),
        )
    mounted = app.router.routes[-1]
    assert isinstance(mounted, Mount)
    app.router.routes[-1] = _Pages(mounted.path, app=mounted.app)
    return site


def forget_closed_tabs(site: "Blocks") -> int:
    """Drop what Gradio holds of tabs that were closed a while ago; returns how many.

    By itself it keeps them until there are `MOST_TABS`: a server that people open every day would grow for weeks.
    """
    holder, now = site.state_holder, datetime.now()  # as Gradio notes them
    closed = [
        name
        for name, session in list(holder.session_data.items())
        if now - holder.time_last_used.get(name, now) > (CLOSED_FOR if session.is_closed else LEFT_FOR)
    ]
    for name in closed:
        holder.session_data.pop(name, None)
        holder.time_last_used.pop(name, None)
    return len(closed)


class _Pages(Mount):
    """Gets what Gradio is needed for, so that all else is refused in words of ours."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        if scope["type"] != "http" or not _is_gradio(scope["path"]):
            return Match.NONE, {}
        return super().matches(scope)


def _is_gradio(path: str) -> bool:
    if path.startswith(GRADIO):
        return path == UNQUEUED or not path.startswith(SHUT)
    return any(path == page.address for page in PAGES)
