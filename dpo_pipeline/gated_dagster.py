"""Dagster's webserver behind the gate: `python -m dpo_pipeline.gated_dagster` takes `dagster-webserver`'s options.

By itself it answers whoever asks, under every name: a picture on any page whose address is a mutation of GraphQL could
start runs. Its command line is kept as it is; only the application that it hands to uvicorn is wrapped.
"""

from typing import Any
from urllib.parse import parse_qs

import dagster_webserver.cli as webserver
from starlette.types import ASGIApp, Receive, Scope, Send

from dpo_pipeline.gate import WebGate
from dpo_pipeline.request_errors import ForeignOrigin
from dpo_pipeline.settings import load_settings

CREATE = "create_app_from_workspace_process_context"
"""What its command line makes the application with."""


class NoQueryByLink:
    """ASGI middleware: links and pictures send GET, so GraphQL is asked by POST alone; Dagster's own pages do."""

    def __init__(self, app: ASGIApp):
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if (
            scope["type"] == "http"
            and scope["method"] != "POST"
            and scope["path"].rstrip("/").endswith("/graphql")
            and "query" in parse_qs(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        ):
            raise ForeignOrigin("GraphQL is asked by POST here: whatever a link says would be done otherwise.")
        await self._app(scope, receive, send)


def main() -> None:
    plain = getattr(webserver, CREATE)

    def gated(*args: Any, **kwargs: Any) -> ASGIApp:
        return WebGate(NoQueryByLink(plain(*args, **kwargs)), load_settings())

    setattr(webserver, CREATE, gated)
    webserver.cli(auto_envvar_prefix="DAGSTER_WEBSERVER")


if __name__ == "__main__":
    main()
