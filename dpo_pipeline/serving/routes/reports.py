"""The reports that the loop writes for people, as pages: as they were written last, or when the first one comes."""

from fastapi import APIRouter, Response
from fastapi.responses import FileResponse

from dpo_pipeline.core.report import REPORTS, report_of
from dpo_pipeline.serving.content_policy import policy
from dpo_pipeline.serving.plain_page import plain_page
from dpo_pipeline.serving.routes.parts import Served

router = APIRouter(include_in_schema=False)
POLICY = policy("style-src 'unsafe-inline'", "img-src 'self' data:", "form-action 'none'")
"""Their plots are drawn into the page, with styles of their own."""
NOT_YET = (
    "<p>It is not written yet: Dagster writes it every Monday at six. To have it now, launch the job "
    "<code>write_report</code> there.</p>"
)


@router.get("/reports/{name}")
def report(name: str, serving: Served) -> Response:
    """A report by its name in the address."""
    if name not in REPORTS:
        listed = "".join(f'<li><a href="{report_of(each)}">{title}</a></li>' for each, title in REPORTS.items())
        return plain_page(f"There is no report {name[:60]}", f"<ul>{listed}</ul>", 404)
    written = serving.settings.report_page(name)
    if written.exists():
        return FileResponse(written, media_type="text/html", headers=POLICY)
    return plain_page(REPORTS[name], NOT_YET)
