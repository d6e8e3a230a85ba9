"""What a tab shows, kept over its reload: by an id that the tab draws, and keeps until it is closed.

In the memory of one server, and not for ever: after a restart, or hours, a tab starts over. Each load has a visit of
its own, into which what was shown is copied: what the page before still does, and a tab that was duplicated, touch
another one.
"""

import re
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from dpo_pipeline.serving.accounts import account_of

T = TypeVar("T")
MOST, KEPT_S = 500, 6 * 3600.0
_DRAWN = re.compile(r"[0-9a-f]{36}\Z")
# The first of the values that an event is given becomes the tab's id, the second what was being typed.
_TAB = """(_, ...given) => {
  const bytes = Array.from(crypto.getRandomValues(new Uint8Array(18)));
  const drawn = bytes.map(byte => byte.toString(16).padStart(2, "0")).join("");
  try {
    const kept = (name, otherwise) => sessionStorage.getItem(name) ?? otherwise;
    sessionStorage.setItem("dpo-tab", kept("dpo-tab", drawn));
    return [kept("dpo-tab", drawn), kept("dpo-draft:" + location.pathname, ""), ...given.slice(1)];
  } catch { return [drawn, "", ...given.slice(1)]; }
}"""
_DRAFT = """typed => {
  try { sessionStorage.setItem("dpo-draft:" + location.pathname, typed ?? ""); } catch { /* not kept, then */ }
}"""


class Visits(Generic[T]):
    """One for each tab and whoever is signed in there; those that were opened longest ago go."""

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[str, str], tuple[float, T]] = OrderedDict()
        self._lock = threading.Lock()

    def open(self, tab: str, request: Any, visit: T) -> T | None:
        """What this tab showed to this person before, or null; from now on it is this visit that it shows."""
        account = account_of(request)
        key, now = (tab, account.name if account else ""), time.monotonic()
        with self._lock:
            opened, before = self._known.pop(key, (now, None))
            while self._known and (len(self._known) >= MOST or next(iter(self._known.values()))[0] < now - KEPT_S):
                self._known.popitem(last=False)
            if _DRAWN.match(tab):
                self._known[key] = now, visit
            return before if opened >= now - KEPT_S else None


def reopening(blocks: Any, reopen: Callable[..., Any], visit: Any, typed: Any, outputs: list[Any]) -> None:
    """When the page opens, `reopen(tab, draft, visit, request)` fills it; what is typed into `typed` the tab keeps.

    Somebody may be quicker than that: what they have begun meanwhile stays.
    """
    import gradio as gr

    tab = gr.Textbox(visible="hidden")
    blocks.load(
        reopen, [tab, typed, visit], outputs, js=_TAB, show_progress="hidden", api_visibility="private", queue=False
    )
    typed.change(None, typed, None, js=_DRAFT, show_progress="hidden", api_visibility="private", queue=False)
