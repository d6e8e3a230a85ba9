"""The head of each page: Gradio by itself has one title for a whole site, its own icon, and its makers' words."""

import re
from collections.abc import Mapping
from typing import Any

from dpo_pipeline.core.versions import is_version_name
from dpo_pipeline.serving.site_map import HOME, head, page_at, title_of

TEMPLATE = "frontend/index.html"
FIRST, CONFIG = '<meta charset="utf-8" />', "window.gradio_config = {{ config | toorjson }}"
_THEIRS = re.compile(r'<meta\s+(?:property="og:|name="twitter:)[^<>]*/>|<link rel="manifest"[^<>]*>')


def give_heads() -> None:
    """From now on this process's Gradio sends pages with title, description and icon of their own.

    Raises:
        RuntimeError: this version of Gradio has another template.
    """
    from gradio.routes import templates
    from jinja2 import ChoiceLoader, DictLoader
    from markupsafe import Markup

    def head_of(config: Mapping[str, Any], request: Any) -> Markup:
        page = page_at(config["current_page"]) or HOME
        about = _version(request)
        told = f"{about}: {page.description}" if about else page.description
        return Markup(head(title(config, request), told, page.icon))  # noqa: S704 escaped there

    def title(config: Mapping[str, Any], request: Any) -> str:
        page, about = page_at(config["current_page"]) or HOME, _version(request)
        return title_of(about) if about else page.title

    def titled(config: Mapping[str, Any], request: Any) -> dict[str, Any]:
        return {**config, "title": title(config, request)}

    environment = templates.env
    if "head_of" in environment.globals:
        return
    assert environment.loader is not None
    source, _, _ = environment.loader.get_source(environment, TEMPLATE)
    if FIRST not in source or CONFIG not in source:
        raise RuntimeError(f"Gradio's {TEMPLATE} has changed: install the pinned version (constraints.txt).")
    ours = _THEIRS.sub("", source).replace(FIRST, FIRST + "{{ head_of(config, request) }}", 1)
    ours = ours.replace(CONFIG, CONFIG.replace("config |", "titled(config, request) |"), 1)
    environment.globals.update(head_of=head_of, titled=titled)
    environment.loader = ChoiceLoader([DictLoader({TEMPLATE: ours}), environment.loader])


def _version(request: Any) -> str | None:
    """The version that the page is asked about, where it is one of the page of versions."""
    name = str(request.query_params.get("name", ""))
    return name if request.url.path == "/versions" and is_version_name(name) else None
