"""What a tab shows, kept over its reload: by an id that the tab draws, and keeps until it is closed.

In the memory of one server, for hours; after a restart, or on another server, by what the tab itself keeps: ids of what
is on record. Each load has a visit of its own, into which what was shown is copied: what the page before still does,
and a tab that was duplicated, touch another one.
"""

import re
import threading
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any, Generic, NamedTuple, TypeVar

import msgspec

from dpo_pipeline.serving.callers import account_of
from dpo_pipeline.serving.pages.polling import QUIET

T = TypeVar("T")
MOST, KEPT_S = 500, 6 * 3600.0
_DRAWN = re.compile(r"[0-9a-f]{36}\Z")
# The first values that an event is given become what the tab keeps.
_TAB = """(_tab, _draft, _shown, _unsent, ...given) => {
  const bytes = Array.from(crypto.getRandomValues(new Uint8Array(18)));
  const drawn = bytes.map(byte => byte.toString(16).padStart(2, "0")).join("");
  try {
    const kept = (name, otherwise) => sessionStorage.getItem(name) ?? otherwise;
    sessionStorage.setItem("dpo-tab", kept("dpo-tab", drawn));
    for (const name of ["dpo-draft", "dpo-shown", "dpo-unsent"]) {  // the A/B test was once the home page
      const before = sessionStorage.getItem(name + ":/");
      if (location.pathname !== "/compare" || before === null) continue;
      if (kept(name + ":/compare", null) === null) sessionStorage.setItem(name + ":/compare", before);
      sessionStorage.removeItem(name + ":/");
    }
    const here = name => kept(name + ":" + location.pathname, "");
    return [kept("dpo-tab", drawn), here("dpo-draft"), here("dpo-shown"), here("dpo-unsent"), ...given];
  } catch { return [drawn, "", "", "", ...given]; }
}"""
_KEEP = """value => {
  try { sessionStorage.setItem("dpo-%s:" + location.pathname, value ?? ""); } catch { /* not kept, then */ }
}"""
KEEP_UNSENT = """try {
    const kept = name => sessionStorage.getItem(name + ":" + location.pathname);
    const unsent = [JSON.parse(kept("dpo-unsent") || "[]"), {shown: kept("dpo-shown") ?? "", ...%s}].flat();
    sessionStorage.setItem("dpo-unsent:" + location.pathname, JSON.stringify(unsent.slice(-50)));
  } catch { /* not kept, then */ }"""
_HANDLED = """count => { try {
  const key = "dpo-unsent:" + location.pathname, kept = [JSON.parse(sessionStorage.getItem(key) || "[]")].flat();
  sessionStorage.setItem(key, JSON.stringify(kept.slice(Number(count) || 0)));
} catch { /* never kept */ } }"""


def keeping_presses(said: Mapping[str, str]) -> str:
    """A script for the head: what the press of a button says is kept by the tab until the page opens again, where the
    server knows what of it it has heard.

    Here and not in the button's event, which Gradio drops, and says nothing, while it knows that nobody answers.

    Args:
        said: by the id of the button, a JavaScript object.
    """
    told = ", ".join(f'"{button}": () => ({what})' for button, what in said.items())
    return f"""
(() => {{
  const said = {{{told}}};
  document.addEventListener("click", event => {{
    const button = event.target.closest && event.target.closest("button");
    if (button && !button.disabled && button.id in said) {{ {KEEP_UNSENT % "said[button.id]()"} }}
  }}, true);
}})();
"""


class Kept(NamedTuple):
    """What a tab has kept: its id, what was being typed, what it shows by ids, and all that was said on it lately, of
    which some may not have been heard.
    """

    tab: str
    draft: str
    shown: str
    said: tuple[Any, ...]


Reopen = Callable[[Kept, Any, Any, Any], Awaitable[tuple[dict[Any, Any], bool]]]
"""(kept, visit, person, request) → what changes on the page, and whether all that was said is on record."""


class Visits(Generic[T]):
    """One for each tab and whoever is signed in there; those that were opened longest ago go."""

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[str, str], tuple[float, T]] = OrderedDict()
        self._lock = threading.Lock()

    def before(self, tab: str, request: Any) -> T | None:
        """What this tab showed to this person last, or null."""
        with self._lock:
            opened, visit = self._known.get(_key(tab, request), (0.0, None))
            return visit if opened >= time.monotonic() - KEPT_S else None

    def open(self, tab: str, request: Any, visit: T) -> None:
        """From now on it is this visit that the tab shows."""
        key, now = _key(tab, request), time.monotonic()
        with self._lock:
            self._known.pop(key, None)
            while self._known and (len(self._known) >= MOST or next(iter(self._known.values()))[0] < now - KEPT_S):
                self._known.popitem(last=False)
            if _DRAWN.match(tab):
                self._known[key] = now, visit


def _key(tab: str, request: Any) -> tuple[str, str]:
    account = account_of(request)
    return tab, account.name if account else ""


def reopening(blocks: Any, reopen: Reopen, visit: Any, person: Any, typed: Any, shown: Any, outputs: list[Any]) -> None:
    """When the page opens, `reopen` fills it.

    Somebody may be quicker than that: what they have begun meanwhile stays.

    Args:
        typed: a field whose value the tab keeps as the draft.
        shown: a hidden one, whose value the tab keeps to be shown the same again.
    """
    import gradio as gr

    tab, unsent, handled = (gr.Textbox(visible="hidden") for _ in range(3))

    async def opened(
        tab: str, draft: str, shown: str, unsent: str, visit: Any, person: Any, request: gr.Request
    ) -> dict[Any, Any]:
        kept = Kept(tab, draft, shown, _said(unsent))
        update, heard = await reopen(kept, visit, person, request)
        return update | ({handled: str(len(kept.said))} if heard and kept.said else {})

    blocks.load(opened, [tab, typed, shown, unsent, visit, person], [*outputs, handled], js=_TAB, **QUIET)
    handled.change(None, handled, None, js=_HANDLED, **QUIET)
    for part, name in ((typed, "draft"), (shown, "shown")):
        part.change(None, part, None, js=_KEEP % name, **QUIET)


def in_form(said: Iterable[Any], form: type[T]) -> list[T]:
    """What has this form; what another version of the page kept, or somebody wrote there, is left out."""
    found = []
    for each in said:
        with suppress(msgspec.ValidationError):
            found.append(msgspec.convert(each, form))
    return found


def _said(kept: str) -> tuple[Any, ...]:
    try:
        said = msgspec.json.decode(kept or "[]")
    except msgspec.DecodeError:
        return ()
    return tuple(said) if isinstance(said, list) else (said,)
