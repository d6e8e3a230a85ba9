"""What a tab shows, kept over its reload: by an id that the tab draws, and keeps until it is closed.

In the memory of one server, and not for ever: after a restart, or hours, a tab begins anew.
"""

import re
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Generic, TypeVar

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
    """One for each tab, made by `new` at its first sight; those that nobody came back to for longest go."""

    def __init__(self, new: Callable[[], T]):
        self._new = new
        self._known: OrderedDict[str, tuple[float, T]] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, tab: str) -> T:
        """What this tab showed before, or what a new one begins with."""
        now = time.monotonic()
        with self._lock:
            while self._known and (len(self._known) >= MOST or next(iter(self._known.values()))[0] < now - KEPT_S):
                self._known.popitem(last=False)
            _, visit = self._known.pop(tab, (now, None))
            visit = self._new() if visit is None else visit
            if _DRAWN.match(tab):
                self._known[tab] = now, visit
            return visit


def reopening(blocks: Any, reopen: Callable[..., Any], typed: Any, outputs: list[Any]) -> None:
    """When the page opens, `reopen(tab, draft, request)` fills it; what is typed into `typed` is kept by the tab."""
    import gradio as gr

    tab = gr.Textbox(visible="hidden")
    blocks.load(reopen, [tab, typed], outputs, js=_TAB, show_progress="hidden", api_visibility="private", queue=False)
    typed.change(None, typed, None, js=_DRAFT, show_progress="hidden", api_visibility="private", queue=False)
