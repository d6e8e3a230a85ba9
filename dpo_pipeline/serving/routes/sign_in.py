"""How a person with a key uses the pages: they show it once, and the browser keeps a signed session instead."""

import html
from typing import Any
from urllib.parse import parse_qs

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from dpo_pipeline.core.identity import ROLES
from dpo_pipeline.errors import KeyRequired
from dpo_pipeline.serving.accounts import COOKIE, SESSION_S, account_of, address_of
from dpo_pipeline.serving.routes.parts import Served

router = APIRouter(include_in_schema=False)
PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Sign in</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
:root {{ color-scheme: light dark; }}
body {{ font: 1rem/1.5 system-ui, sans-serif; max-width: 26rem; margin: 12vh auto; padding: 0 1rem; }}
h1 {{ font-size: 1.5rem; margin: 0 0 .5rem; }}
label {{ display: block; font-weight: 600; margin-top: 1rem; }}
input {{ box-sizing: border-box; width: 100%; font: inherit; padding: .5rem; margin-top: .25rem; }}
button {{ font: inherit; font-weight: 600; padding: .5rem 1rem; margin-top: 1rem; border: 0; border-radius: 6px;
  color: #fff; background: #4338ca; cursor: pointer; }}
.trouble {{ border-left: 4px solid #d33a2c; padding: .25rem .75rem; margin: 1rem 0 0; }}
</style></head><body><main><h1>Sign in</h1>{body}</main></body></html>"""
FORM = """<p>With a key your votes count as yours on every device, and as evidence on new versions. Whoever runs this
server makes one with <code>dpo keys add</code>.</p>{told}
<form method="post" action="/sign-in"><label for="key">Your key</label>
<input id="key" name="key" type="password" autocomplete="current-password" autofocus required>
<button>Sign in</button></form><p><a href="/">Go on without a key</a></p>"""


@router.get("/sign-in")
def sign_in_page() -> HTMLResponse:
    """The form."""
    return _page(FORM.format(told=""))


@router.post("/sign-in")
async def sign_in(request: Request, serving: Served) -> Response:
    """Take the key, give the session."""
    found = parse_qs((await request.body()).decode("utf-8", "replace"))
    try:
        _, session = await serving.accounts.sign_in(found.get("key", [""])[0], address_of(request))
    except KeyRequired as error:
        return _page(FORM.format(told=f'<p class="trouble" role="alert">{html.escape(str(error))}</p>'), 401)
    answer = RedirectResponse("/", 303)
    # Lax: whoever follows a link to a page is still signed in; what changes anything is guarded by the gate.
    answer.set_cookie(
        COOKIE, session, max_age=SESSION_S, httponly=True, samesite="lax", secure=request.url.scheme == "https"
    )
    return answer


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


def _page(body: str, status: int = 200) -> HTMLResponse:
    return HTMLResponse(PAGE.format(body=body), status)
