"""The page of a version's evaluation, as it was written."""

from fastapi import APIRouter
from fastapi.responses import FileResponse

from dpo_pipeline.serving.routes.parts import KEYED, Served, errors

router = APIRouter(prefix="/v1/versions", tags=["versions"], dependencies=KEYED)


@router.get("/{name}/evaluation", response_class=FileResponse, responses=errors(401, 404))
def evaluation(name: str, serving: Served) -> FileResponse:
    """The newest evaluation of a version, with its plots and answers, as one HTML page."""
    return FileResponse(serving.versions.report(name), media_type="text/html")
