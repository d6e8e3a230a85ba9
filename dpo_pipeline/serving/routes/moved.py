"""Addresses that pages once had: links in old messages and bookmarks still lead to them."""

from fastapi import APIRouter
from fastapi.responses import RedirectResponse

router = APIRouter(include_in_schema=False)


@router.get("/loop")
def loop() -> RedirectResponse:
    return RedirectResponse("/", 308)
