"""The API's own pages. All that they show is served from here, so that they work without the internet."""

from fastapi import FastAPI
from fastapi.openapi.docs import get_redoc_html, get_swagger_ui_html
from fastapi.responses import HTMLResponse
from fastapi.staticfiles import StaticFiles

ASSETS = "/docs/assets"
ICON = f"{ASSETS}/favicon.png"


def add_docs(app: FastAPI) -> None:
    """`/docs` to try the API out, `/redoc` to read."""
    schema, title = str(app.openapi_url), app.title

    def docs() -> HTMLResponse:
        script, style = f"{ASSETS}/swagger-ui-bundle.js", f"{ASSETS}/swagger-ui.css"
        return get_swagger_ui_html(
            openapi_url=schema, title=title, swagger_js_url=script, swagger_css_url=style, swagger_favicon_url=ICON
        )

    def redoc() -> HTMLResponse:
        script = f"{ASSETS}/redoc.standalone.js"
        return get_redoc_html(
            openapi_url=schema, title=title, redoc_js_url=script, redoc_favicon_url=ICON, with_google_fonts=False
        )

    app.mount(ASSETS, StaticFiles(packages=[("fastapi_offline", "static")]), name="docs assets")
    app.add_api_route("/docs", docs, include_in_schema=False)
    app.add_api_route("/redoc", redoc, include_in_schema=False)
