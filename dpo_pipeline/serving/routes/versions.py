"""What can be taken along of a version: the page of its evaluation as it was written, and its model card."""

from urllib.parse import quote

from fastapi import APIRouter, Response
from fastapi.responses import FileResponse

from dpo_pipeline.core.versions import served_name
from dpo_pipeline.serving.routes.parts import KEYED, Served, errors

router = APIRouter(prefix="/v1/versions", tags=["versions"], dependencies=KEYED)


@router.get(
    "/{name}/evaluation", summary="A version's evaluation", response_class=FileResponse, responses=errors(401, 404)
)
def evaluation(name: str, serving: Served) -> FileResponse:
    """The newest evaluation of a version, with its plots and answers, as one HTML page."""
    return FileResponse(serving.versions.report(name), media_type="text/html")


@router.get(
    "/{name}/card",
    summary="A version's model card",
    responses={200: {"content": {"text/markdown": {}}}, **errors(401, 404)},
)
def card(name: str, serving: Served) -> Response:
    """The model card of a version as of now, in the form of Hugging Face: Markdown, to be kept as a file."""
    written, model = serving.versions.card(name), serving.settings.registered_model
    kept_as = f"attachment; filename*=UTF-8''{quote(f'{model}-{served_name(name)}.md')}"
    return Response(written, media_type="text/markdown", headers={"Content-Disposition": kept_as})
