"""The pages as one site, on the application that serves the API."""

import os
import warnings
from collections.abc import Callable
from importlib import import_module

from fastapi import FastAPI
from starlette.routing import Match, Mount
from starlette.types import Scope

from dpo_pipeline.serving.service import Service
from dpo_pipeline.settings import Settings

# Title in the navigation, path, module with `build`. The first one is the start page.
PAGES = (
    ("A/B test", "", "ab_test"),
    ("Chat", "chat", "chat"),
    ("Leaderboard", "leaderboard", "leaderboard"),
    ("Review", "review", "review"),
    ("Rollout", "rollout", "rollout"),
    ("Contributors", "contributors", "contributors"),
)
# Never answered by the pages: what the API owns, and what Gradio brings along and no page of ours uses
# (uploads, a proxy, files, a second way to call functions).
API = ("/v1/", "/docs", "/redoc", "/openapi.json", "/healthz", "/readyz", "/metrics")
SHUT = (
    *("/login", "/logout", "/monitoring", "/svelte", "/manifest.json", "/robots.txt", "/pwa_icon"),
    *(
        f"/gradio_api/{name}"
        for name in (
            *("api/", "call/", "custom_component", "deep_link", "dev/", "file", "info", "openapi.json"),
            *("process_recording", "profiling", "proxy=", "run", "stream", "token", "undo-vibe", "upload", "vibe"),
        )
    ),
)


def mount_pages(app: FastAPI, settings: Settings, service: Callable[[], Service]) -> None:
    """Put the site on the application.

    Args:
        service: asked while the app runs; before and after there is none.
    """
    # Gradio reports its use to its makers unless told otherwise before it is imported.
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    import gradio as gr
    from gradio.components.navbar import Navbar

    from dpo_pipeline.serving.pages import ab_layout, ab_view, theme

    site = gr.Blocks(title="A/B testing and feedback", analytics_enabled=False, fill_width=True)
    for title, path, name in PAGES:
        if path:
            site.route(title, f"/{path}")
        with site:
            Navbar(main_page_name=PAGES[0][0])
            gr.HTML(theme.heading(title))
            import_module(f"{__package__}.{name}").build(service)
            gr.HTML(theme.consent(settings.access.consent))
    site.queue(default_concurrency_limit=None)
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
            css=theme.CSS + ab_view.CSS,
            head=f"<style>{theme.FRAME}</style><script>{ab_layout.KEYS}</script>",
        )
    mounted = app.router.routes[-1]
    assert isinstance(mounted, Mount)
    app.router.routes[-1] = _Pages(mounted.path, app=mounted.app)


class _Pages(Mount):
    """Leaves the paths of the API alone, so that they are refused in the API's own words."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        if scope["type"] != "http" or scope["path"].startswith(API + SHUT):
            return Match.NONE, {}
        return super().matches(scope)
