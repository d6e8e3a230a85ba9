"""What changes on the A/B page, by the name of the component."""

from typing import Any, get_args

from dpo_pipeline.core.votes import Choice
from dpo_pipeline.serving.pages import ab_view
from dpo_pipeline.serving.pages.ab_visit import Visit
from dpo_pipeline.serving.services.comparison_views import ComparisonView, PartialView

Update = dict[str, Any]
CHOICES: tuple[Choice, ...] = get_args(Choice)
NOTHING_SAID: dict[str, Any] = {"strength": "", "tags": [], "words": ""}
TYPED = {"typed": "", "follow": "", **NOTHING_SAID}
"""What people fill in, when it is empty."""
VOTED = (
    *CHOICES,
    "skip",
    "next",
    "further",
    "notice",
    "batch",
    "question",
    "card_left",
    "card_right",
    "result",
    "progress",
)
"""What a vote changes."""


def cards(visit: Visit, pair: PartialView | ComparisonView | None) -> Update:
    """Both answers as far as they are; null: none was asked for."""
    if pair is None:
        return {f"card_{side}": ab_view.card(side, None, visit) for side in ab_view.LETTER}
    whole = not isinstance(pair, PartialView)
    return {f"card_{side}": ab_view.card(side, getattr(pair, side), visit, whole) for side in ab_view.LETTER}


def standing(visit: Visit) -> Update:
    """All that shows where a visit stands."""
    update, voted = batch_buttons(visit.in_batch), visit.voted is not None
    if visit.shown is None:
        return update
    update |= {"question": ab_view.question(visit), "batch": ab_view.batch_line(visit.batch, voted)}
    update |= cards(visit, visit.shown) | vote_buttons(not voted)
    update |= {"result": ab_view.result(visit), "next": changed(visible=voted)}
    return update | {"further": changed(visible=voted and visit.conversation is not None)}


def vote_buttons(on: bool, skip: bool | None = None) -> Update:
    """Whether there is something to vote on.

    Args:
        skip: whether it can be skipped; null: where it can be voted on. What is still being written can be.
    """
    return {choice: changed(interactive=on) for choice in CHOICES} | {
        "skip": changed(interactive=on if skip is None else skip)
    }


def batch_buttons(running: bool) -> Update:
    """Whether a batch testing session runs."""
    return {
        "length": changed(visible=not running),
        "start": changed(visible=not running),
        "end": changed(visible=running),
    }


def changed(**properties: Any) -> Any:
    """These properties of a component."""
    import gradio as gr

    return gr.update(**properties)
