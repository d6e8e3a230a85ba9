"""One version: what it is worth, what it learned from, what became of it, and how to load it or train it again."""

from collections.abc import Callable
from typing import Any

from dpo_pipeline.serving.assembly import Serving
from dpo_pipeline.serving.pages.markup import page, paragraph
from dpo_pipeline.serving.pages.person import person_state, pseudonym_of
from dpo_pipeline.serving.pages.polling import following
from dpo_pipeline.serving.pages.version_view import version_list, version_view

REFRESH_S = 15.0
EMPTY = "No version yet: the first one is being built. This page updates itself."


def build(serving: Callable[[], Serving]) -> None:
    """The page, in the gr.Blocks context that is open."""
    import gradio as gr

    person = person_state()
    shown = gr.HTML(page(paragraph("Reading the ledger…", "muted")), elem_id="versions")

    def look(person: Any, request: gr.Request) -> str:
        versions, zone = serving().versions, serving().settings.zone
        records = versions.records()
        if not records:
            return page(paragraph(EMPTY, "notice"))
        seen = versions.look(request.query_params.get("name") or records[-1].name)
        whose = pseudonym_of(serving(), person, request)
        return page(version_view(seen, versions.teachers(seen.record), whose, zone), version_list(records, zone))

    following(shown, look, REFRESH_S, person)
