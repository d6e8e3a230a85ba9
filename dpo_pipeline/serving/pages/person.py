"""Who sits at the browser: a random id kept there, and on the server only the pseudonym made of it."""

import re
from typing import Any

from dpo_pipeline.serving.assembly import Serving
from dpo_pipeline.serving.callers import account_of
from dpo_pipeline.serving.services.visitors import Visitor

STORAGE_KEY = "dpo-person"
DRAWN = re.compile(r"[0-9a-f]{36}\Z")
"""What browsers draw. Anything else in its place is a name that somebody wrote there, perhaps another's."""
KNOWN_OR_NEW = """(known) => typeof known === "string" && known ? known
  : Array.from(crypto.getRandomValues(new Uint8Array(18)), (byte) => byte.toString(16).padStart(2, "0")).join("")"""


def person_state() -> Any:
    """The id of the person, the same on every page and after a restart; made on the first visit."""
    import gradio as gr

    # Gradio scrambles the value with this; a random secret would lose the person with every restart.
    state = gr.BrowserState(storage_key=STORAGE_KEY, secret=STORAGE_KEY)
    blocks = gr.context.Context.root_block
    assert blocks is not None, "called inside the page's gr.Blocks context"
    # In the browser alone: a round trip would leave a moment in which a quick person is nobody yet.
    blocks.load(None, state, state, js=KNOWN_OR_NEW, show_progress="hidden")
    return state


def visitor_of(serving: Serving, person: Any, session_id: str, request: Any) -> Visitor:
    """Whoever uses a page: by their key, else by the browser's id; without one, by the visit.

    Raises:
        RoleRequired: somebody with a key that only allows looking.
    """
    return serving.visitors.visitor(request, _id(person) or session_id, session_id, "ui", unguessable=True)


def pseudonym_of(serving: Serving, person: Any, request: Any) -> str | None:
    """Null while the browser has not said who it is."""
    account = account_of(request)
    name = account.name if account else _id(person)
    return serving.visitors.pseudonym(name) if name else None


def _id(person: Any) -> str:
    return person if isinstance(person, str) and DRAWN.match(person) else ""
