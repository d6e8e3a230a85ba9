"""The API's own page, by Swagger UI. All that it shows is served from here, so that it works without the internet."""

import json

from fastapi import FastAPI
from fastapi.responses import HTMLResponse
from fastapi.staticfiles import StaticFiles

from dpo_pipeline.serving.content_policy import hash_of, policy
from dpo_pipeline.serving.site_map import breadcrumb, head, title_of

ASSETS = "/docs/assets"
# Swagger UI's own colors are too pale to read in places, and it knows the dark scheme by a class only.
STYLE = """
body { margin: 0; }
.crumbs { font: .875rem/1.5 system-ui, sans-serif; padding: 1rem 20px 0; max-width: 1460px; margin: 0 auto; }
.crumbs ol { display: flex; flex-wrap: wrap; list-style: none; margin: 0; padding: 0; }
.crumbs li + li::before { content: "→"; margin: 0 .4rem; }
.crumbs a { color: #4338ca; }
html.dark-mode .crumbs { color: #e6eaf0; }
html.dark-mode .crumbs a { color: #a5b4fc; }
.swagger-ui .info { margin: 1.5rem 0; }
html.dark-mode body { background: #1c2022; }
.swagger-ui .info .title small { background: #4b5563; }
.swagger-ui .info .title small.version-stamp { background: #3f6212; }
.swagger-ui .opblock.opblock-get .opblock-summary-method { background: #1d4ed8; }
.swagger-ui .opblock.opblock-post .opblock-summary-method { background: #166534; }
.swagger-ui .opblock .tab-header .tab-item.active h4 span::after { content: none; }
.swagger-ui .btn.execute { background: #1d4ed8; border-color: #1d4ed8; }
.swagger-ui .json-schema-2020-12-expand-deep-button { background: none; color: #4b5563; }
.swagger-ui .microlight span[style*="rgb(211, 99, 99)"] { color: #fca5a5 !important; }
.swagger-ui select { background: white; color: #1f2937; appearance: auto; }
html.dark-mode .swagger-ui .json-schema-2020-12-expand-deep-button { color: #cbd5e1; }
html.dark-mode .swagger-ui select { background: #1f2937; color: white; }
html:not(.dark-mode) .swagger-ui .info .link, html:not(.dark-mode) .swagger-ui .info .link .url { color: #1d4ed8; }
html:not(.dark-mode) .swagger-ui .btn.authorize, html:not(.dark-mode) .swagger-ui .btn.authorize span {
  color: #166534; border-color: #166534; }
html:not(.dark-mode) .swagger-ui .btn.cancel { color: #b42318; border-color: #b42318; }
html:not(.dark-mode) .swagger-ui .parameter__in { color: #4b5563; }
html:not(.dark-mode) .swagger-ui .parameter__name.required::after { color: #b42318; }
html.dark-mode .swagger-ui .opblock .opblock-section-header .try-out__btn.cancel {
  color: #ffa0a0; border-color: #ffa0a0; }
"""
# What it shows has no names for whoever cannot see it; and it builds each part when it is opened.
SCRIPT = """
const dark = matchMedia("(prefers-color-scheme: dark)");
const paint = () => document.documentElement.classList.toggle("dark-mode", dark.matches);
dark.addEventListener("change", paint);
paint();
const give = (attribute, selector, value) => {
  for (const node of document.querySelectorAll(`${selector}:not([${attribute}])`)) {
    node.setAttribute(attribute, value(node));
  }
};
new MutationObserver(() => {
  give("aria-level", ".opblock-tag", () => "2");
  give("aria-level", ".swagger-ui h4", () => "3");
  give("aria-label", ".body-param__text", () => "Request body");
  give("aria-label", "select", node => node.closest("tr")?.dataset.paramName ?? "Media type");
  give("aria-label", "input", node => node.closest("tr")?.dataset.paramName ?? node.placeholder);
  give("tabindex", "pre", () => "0");
  for (const node of document.querySelectorAll(".responses-table[role]")) node.removeAttribute("role");
}).observe(document.body, {childList: true, subtree: true});
SwaggerUIBundle({url: SCHEMA, dom_id: "#api", layout: "BaseLayout", presets: [SwaggerUIBundle.presets.apis]});
"""


def add_docs(app: FastAPI) -> None:
    """`/docs`, to read about the API and to try it out."""
    script = f"const SCHEMA = {json.dumps(app.openapi_url)};{SCRIPT}"
    # What Swagger UI shows is written by it, with styles; its calls go to this server, its pictures lie in its styles.
    headers = policy(
        f"script-src 'self' {hash_of(script)}", "style-src 'self' 'unsafe-inline'", "img-src 'self' data:",
        "font-src 'self' data:", "connect-src 'self'", "form-action 'self'",
    )  # fmt: skip
    page = f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
{head(title_of("API"), "Every call of the HTTP API, to read about and to try.")}
<link rel="stylesheet" href="{ASSETS}/swagger-ui.css">
<style>{STYLE}</style>
</head>
<body>
{breadcrumb("API")}
<main id="api"></main>
<script src="{ASSETS}/swagger-ui-bundle.js"></script>
<script>{script}</script>
</body>
</html>"""

    def docs() -> HTMLResponse:
        return HTMLResponse(page, headers=headers)

    app.mount(ASSETS, StaticFiles(packages=[("fastapi_offline", "static")]), name="docs assets")
    app.add_api_route("/docs", docs, include_in_schema=False)
