"""A part of a page that follows what happens elsewhere, and stays still while nothing does."""

import logging
from collections.abc import Callable, Sequence
from typing import Any

from dpo_pipeline.errors import DpoError
from dpo_pipeline.serving.pages.markup import notice

log = logging.getLogger(__name__)

QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private", "queue": False}
"""For events that people did not start, or that answer at once: no spinner, no entry in an API list, and no queue.

Gradio's queue tells its answers over one stream, which it closes when nobody waits any more; an event that comes in
that very moment gets "Connection errored out". What answers at once has no need of it.
"""

STREAMED = QUIET | {"queue": True, "concurrency_limit": None}
"""The same for events that answer in parts."""


def following(shown: Any, look: Callable[[Any, Any], str], every_s: float, given: Any = None) -> None:
    """Fill `shown` when the page opens, again every so often, and when `given` changes.

    Args:
        shown: a gr.HTML.
        look: what to show, from the value of `given`, or from a list of values where that is a list, and the request.
    """
    all_following([shown], lambda value, request: [look(value, request)], every_s, given)


def told_by(part: Any) -> Any:
    """The event by which a part says that somebody has changed it; a list says so of people only, not of updates."""
    return part.input if part.get_block_name() == "html" else part.change


def all_following(
    parts: Sequence[Any], look: Callable[[Any, Any], Sequence[str]], every_s: float, given: Any = None
) -> None:
    """The same for several parts that one look fills: each is written only where it has changed.

    Args:
        look: what to show in each of them.
    """
    import gradio as gr

    blocks = gr.context.Context.root_block
    assert blocks is not None, "called inside the page's gr.Blocks context"
    seen, several = gr.State([""] * len(parts)), isinstance(given, list)

    def follow(request: gr.Request, seen: Sequence[str], *values: Any) -> list[Any]:
        try:
            now = look(values if several else values[0] if values else None, request)
        except DpoError as error:
            now = [notice(f"This cannot be shown: {error.outside()}", trouble=True)] * len(parts)
            if now != list(seen):  # once, not every few seconds
                log.error("a page cannot be shown: %s", error)
        # Writing the same again would take scroll position and selection from whoever reads.
        written = [gr.skip() if new == old else new for new, old in zip(now, seen, strict=True)]
        return [*written, list(now)]

    wishes = given if several else [] if given is None else [given]
    changed = [told_by(each) for each in wishes]
    gr.on([blocks.load, gr.Timer(every_s).tick, *changed], follow, [seen, *wishes], [*parts, seen], **QUIET)
