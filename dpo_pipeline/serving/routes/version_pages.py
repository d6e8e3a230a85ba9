"""The address of a version's page, for links from anywhere; of an unknown name, the versions that there are."""

from fastapi import APIRouter, Response
from fastapi.responses import RedirectResponse

from dpo_pipeline.core.versions import page_of, served_name
from dpo_pipeline.serving.plain_page import plain_page
from dpo_pipeline.serving.routes.parts import Served

router = APIRouter(include_in_schema=False)


@router.get("/versions/{name}")
def version_page(name: str, serving: Served) -> Response:
    """Gradio has one address for a page; which version it shows is asked for behind it."""
    known = [record.name for record in serving.versions.records()]
    if served_name(name) in known:
        return RedirectResponse(f"/versions?name={served_name(name)}", 307)
    listed = "".join(f'<li><a href="{page_of(each)}">{each}</a></li>' for each in reversed(known))
    there = f"<p>These are known:</p><ul>{listed}</ul>" if known else "<p>The first version is being built.</p>"
    title = f"There is no version {name[:60]}"
    return plain_page(title, there, 404)
