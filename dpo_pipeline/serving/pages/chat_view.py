"""The chat page's conversation as people see it: what was said, and the buttons of each turn."""

from dpo_pipeline.core.feedback import DOWN, UP
from dpo_pipeline.serving.pages.conversation import Conversation, Turn
from dpo_pipeline.serving.pages.markdown import as_it_is, formatted
from dpo_pipeline.serving.pages.markup import Markup, page, paragraph, text
from dpo_pipeline.serving.pages.visits import KEEP_UNSENT

THUMBS = {UP: "Good answer", DOWN: "Bad answer"}
COPY, EDIT, JUDGE = "copy", "edit", "judge"
EMPTY = "No messages yet: ask something below. You are talking to the model in production."
# A button of a turn says which turn and what; the text to copy is there already.
PRESSED = (
    """
element.addEventListener("click", async event => {
  const button = event.target.closest("button[data-act]");
  if (!button) return;
  if (button.dataset.act === "copy") {
    const turn = button.closest(".turn-of"), said = turn.querySelector(".md-source, .md-only");
    try { await navigator.clipboard.writeText(said.textContent); button.textContent = "Copied"; }
    catch { getSelection().selectAllChildren(turn.querySelector(".turn")); return; }
  }
  if (["up", "down"].includes(button.dataset.act)) """
    + KEEP_UNSENT % "{place: Number(button.dataset.turn), thumb: button.dataset.act}"
    + """
  trigger("select", {index: Number(button.dataset.turn), value: button.dataset.act});
});
"""
)


def conversation_html(talk: Conversation) -> str:
    """Everything that was said; the version that answered stands small under its answer."""
    if not talk.said:
        return page(paragraph(EMPTY, "muted"))
    turns = [
        _turn(place, turn, talk.editing == place, talk.place_to_judge == place) for place, turn in enumerate(talk.said)
    ]
    if talk.growing is not None:
        turns.append(_growing(talk.growing or "…", talk.version or ""))
    busy = "false" if talk.growing is None else "true"
    log = f'<div role="log" aria-label="Conversation" aria-busy="{busy}">{"".join(turns)}</div>'
    return page(Markup(log))


def asked_of(talk: Conversation) -> str:
    """The question above the stars: which answer it is about."""
    place = talk.place_to_judge
    if place is None:
        return page()
    which = "the last answer" if talk.to_judge is talk.last else f"answer {talk.answers_up_to(place)}"
    return page(Markup(f'<p data-turn="{place}">How good was {which}?</p>'))


def _turn(place: int, turn: Turn, edited: bool, judged: bool) -> str:
    if turn.version is None:
        pressed = f' aria-pressed="{str(edited).lower()}"'
        edit = _button(place, EDIT, "Edit", "Edit this message", pressed)
        return f'<div class="turn-of own"><div class="turn own">{text(turn.text)}</div><p class="by">{edit}</p></div>'
    by = f'<span class="muted">Answered by {text(turn.version)}{"" if turn.request_id else ", stopped"}</span>'
    acts = _button(place, COPY, "Copy", "Copy this answer")
    if turn.request_id:
        given = turn.judged.get("thumb")
        acts += "".join(
            _button(
                place, thumb, sign, THUMBS[thumb], f' aria-pressed="{str(given == thumb).lower()}"', given is not None
            )
            for thumb, sign in ((UP, "Good"), (DOWN, "Bad"))
        )
        pressed = f' aria-pressed="{str(judged).lower()}"'
        acts += _button(place, JUDGE, "Rate", "Rate this answer below, or write a better one", pressed)
    said = f'<div class="turn model">{formatted(turn.text)}</div>'
    return f'<div class="turn-of">{said}<p class="by">{by}{acts}</p></div>'


def _button(place: int, act: str, shown: str, label: str, more: str = "", spent: bool = False) -> str:
    """A button of a turn; what it does is told by `PRESSED`."""
    disabled = " disabled" if spent else ""
    return (
        f'<button type="button" class="act" data-act="{act}" data-turn="{place}" aria-label="{label}" title="{label}"'
        f"{more}{disabled}>{shown}</button>"
    )


def _growing(said: str, version: str) -> str:
    """As it is until it is whole: formatting it again with every word would cost more than the words."""
    return f'<div class="turn">{as_it_is(said)}</div><p class="muted by">Answered by {text(version)}, writing</p>'
