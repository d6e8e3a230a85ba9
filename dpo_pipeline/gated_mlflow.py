"""MLflow's server behind the gate, as an app that `mlflow server --app-name dpo` finds (entry point `mlflow.app`).

By itself it takes calls from pages of every port of this machine, and shows every browser pages for applications, which
nobody traces here, until a switch is on "Model training": whatever kind the experiment says it is.
"""

from mlflow.server.fastapi_app import app as plain  # noqa: TID253  (this is MLflow's own process)
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dpo_pipeline.gate import WebGate
from dpo_pipeline.settings import load_settings

SWITCH, MODEL_TRAINING = "mlflow.workflowType_v1", '"machine_learning"'
"""Where MLflow 3.17 keeps that switch in a browser. Under another name nothing happens: it starts as MLflow has it."""
TURNED = f"<script>localStorage.getItem('{SWITCH}') ?? localStorage.setItem('{SWITCH}', '{MODEL_TRAINING}')</script>"


class OpensOnRuns:
    """ASGI middleware: in a browser in which nobody turned the switch yet, experiments open on their runs."""

    def __init__(self, app: ASGIApp):
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] != "/" or scope["method"] != "GET":
            await self._app(scope, receive, send)
            return
        # Asked whether it changed, the server would speak of its own page.
        scope["headers"] = [each for each in scope["headers"] if not each[0].startswith(b"if-")]
        page, begun = b"", None

        async def sending(message: Message) -> None:
            nonlocal page, begun
            if message["type"] == "http.response.start":
                begun = message
                return
            page += message.get("body", b"")
            if message.get("more_body") or begun is None:
                return
            turned = page.replace(b"<head>", b"<head>" + TURNED.encode(), 1)
            headers = MutableHeaders(scope=begun)
            headers["content-length"] = str(len(turned))
            await send(begun)
            await send({"type": "http.response.body", "body": turned})

        await self._app(scope, receive, sending)


app = WebGate(OpensOnRuns(plain), load_settings())
