"""How a person with a key uses the pages: they show it once, and the browser keeps a signed session instead."""

from typing import Any
from urllib.parse import parse_qs, quote

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from dpo_pipeline.core.identity import ROLES
from dpo_pipeline.request_errors import KeyRequired, TooManyWrongKeys
from dpo_pipeline.serving.accounts import COOKIE, SESSION_S
from dpo_pipeline.serving.callers import account_of, address_of
from dpo_pipeline.serving.plain_page import plain_page, trouble
from dpo_pipeline.serving.routes.parts import Served
from dpo_pipeline.serving.site_map import HOME, page_at

router = APIRouter(include_in_schema=False)
FORM = """<p>With a key your votes count as yours on every device, and as evidence on new versions. Whoever runs this
server makes one with <code>dpo keys add</code>.</p>{told}
<form method="post" action="/sign-in?then={then}"><label for="key">Your key</label>
<input id="key" name="key" type="password" autocomplete="current-password" autofocus required>
<button>Sign in</button></form><p><a href="{then}">Go on without a key</a></p>"""


@router.get("/sign-in")
def sign_in_page(then: str = "/") -> HTMLResponse:
    """The form.

    Args:
        then: the page to go on to; what is none of ours leads home.
    """
    return _page("", then)


@router.post("/sign-in")
async def sign_in(request: Request, serving: Served, then: str = "/") -> Response:
    """Take the key, give the session."""
    found = parse_qs((await request.body()).decode("utf-8", "replace"))
    try:
        _, session = await serving.accounts.sign_in(found.get("key", [""])[0], address_of(request))
    except (KeyRequired, TooManyWrongKeys) as error:
        answer = _page(trouble(str(error)), then, error.status)
        if isinstance(error, TooManyWrongKeys):
            answer.headers["Retry-After"] = str(error.retry_after_s)
        return answer
    signed_in = RedirectResponse(_page_of_ours(then), 303)
    # Lax: whoever follows a link to a page is still signed in; what changes anything is guarded by the gate.
    signed_in.set_cookie(
        COOKIE, session, max_age=SESSION_S, httponly=True, samesite="lax", secure=request.url.scheme == "https"
    )
    return signed_in


@router.post("/sign-out")
def sign_out() -> Response:
    answer = RedirectResponse("/", 303)
    answer.delete_cookie(COOKIE, httponly=True, samesite="lax")
    return answer


@router.get("/session")
def session(request: Request, serving: Served) -> dict[str, Any]:
    """Who is signed in, or null; `offered`: there are keys to sign in with."""
    account, offered = account_of(request), serving.accounts.in_use
    if account is None:
        return {"name": None, "role": None, "may": None, "offered": offered}
    return {"name": account.name, "role": account.role, "may": ROLES[account.role], "offered": offered}


def _page(told: str, then: str, status: int = 200) -> HTMLResponse:
    body = FORM.format(told=told, then=quote(_page_of_ours(then)))
    return plain_page("Sign in", body, status, "Show your key once, and your votes count as yours.")


def _page_of_ours(path: str) -> str:
    found = page_at(path)
    return found.address if found else HOME.address
