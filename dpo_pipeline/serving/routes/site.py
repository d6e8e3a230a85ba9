"""What the site has beside its pages: its icon, and addresses that pages once had, which still lead to them."""

from fastapi import APIRouter, Response
from fastapi.responses import RedirectResponse

from dpo_pipeline.serving.site_map import icon

router = APIRouter(include_in_schema=False)


@router.get("/loop")
def loop() -> RedirectResponse:
    return RedirectResponse("/", 308)


@router.get("/favicon.ico")
def favicon() -> Response:
    """For reports, and whatever else names no icon of its own."""
    return Response(icon(), media_type="image/svg+xml", headers={"Cache-Control": "max-age=86400"})
