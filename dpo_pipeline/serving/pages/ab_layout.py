"""The components of the A/B page, in the order in which they are read, and its keys."""

from collections.abc import Mapping
from typing import Any

from dpo_pipeline.core.admission import LONGEST_REASON
from dpo_pipeline.core.votes import STRENGTH_LABELS, TAG_LABELS
from dpo_pipeline.serving.pages import ab_style, ab_view
from dpo_pipeline.serving.pages.ab_visit import Visit
from dpo_pipeline.serving.pages.select import select
from dpo_pipeline.serving.pages.theme import into_view
from dpo_pipeline.serving.pages.visits import keeping_presses

ANY = "Server picks"
BATCHES = (5, 10, 20, 50, 100)
LONGEST_QUESTION = 4000
# The same buttons by key, while nobody is typing or choosing from a list; and one vote a double click.
KEYS = """
(() => {
  const keys = {"1": "ab-left", "a": "ab-left", "arrowleft": "ab-left", "2": "ab-right", "b": "ab-right",
    "arrowright": "ab-right", "t": "ab-tie", "x": "ab-both-bad", "s": "ab-skip", "enter": "ab-next"};
  const own = "input, textarea, select, [contenteditable=true], [role=listbox], [role=combobox], [role=slider]";
  const scrolls = ".md-wide, .md-code pre, .md-math";
  document.addEventListener("keydown", event => {
    const id = keys[event.key.toLowerCase()];
    if (!id || event.repeat || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.closest && event.target.closest(own)) return;
    if (event.key.startsWith("Arrow") && event.target.closest && event.target.closest(scrolls)) return;
    if (event.key === "Enter" && event.target.closest && event.target.closest("button, a, summary")) return;
    const button = document.getElementById(id);
    if (!button || button.disabled || button.offsetParent === null) return;
    event.preventDefault();
    button.click();
  });
  // The second click of two, told here as well as on the server: it may come late there, or meet another button.
  const once = "#ab-votes button, #ab-generate, #ab-start, #ab-end, #ab-go-on, #ab-next";
  document.addEventListener("click", event => {
    if (event.detail > 1 && event.target.closest && event.target.closest(once)) event.stopImmediatePropagation();
  }, true);
})();
"""

_WHY = """choice: "%s", strength: document.querySelector("#ab-why [type=radio]:checked")?.value ?? "",
    tags: [...document.querySelectorAll("#ab-why [type=checkbox]:checked")].map(box => box.name),
    words: document.querySelector("#ab-words textarea")?.value ?? \"\""""
PRESSES = keeping_presses(
    {f"ab-{choice.replace('_', '-')}": f"{{{_WHY % choice}}}" for choice in (*ab_view.LETTER, "tie", "both_bad")}
)


def layout() -> dict[str, Any]:
    """The components by name."""
    import gradio as gr

    hidden = {name: gr.Textbox(visible="hidden") for name in ("shown", "more")}
    return {**_order(), **_pair(), **_why(), **_outcome(), **hidden}


def _order() -> dict[str, Any]:
    """What shall be compared."""
    import gradio as gr

    parts: dict[str, Any] = {}
    parts["progress"] = gr.HTML(elem_id="ab-progress")
    with gr.Row(equal_height=True):
        for name, label in (("first", "Compare version"), ("second", "with version")):
            parts[name] = select([(ANY, ANY)], label=label, elem_id=f"ab-{name}", scale=1)
        parts["origin"] = select(
            [(label, origin) for origin, label in ab_view.ORIGINS.items()],
            value="mix",
            label="Questions from",
            elem_id="ab-origin",
            scale=1,
        )
        parts["typed"] = gr.Textbox(
            label="Question",
            placeholder="Type one, or leave this empty to have one drawn",
            max_lines=6,
            max_length=LONGEST_QUESTION,
            elem_id="ab-typed",
            min_width=300,
            scale=4,
        )
    with gr.Row(elem_classes="ab-order"):
        parts["generate"] = gr.Button(
            "Generate Comparison", variant="primary", elem_id="ab-generate", min_width=260, scale=2
        )
        parts["length"] = select(
            [(f"{n} questions", str(n)) for n in BATCHES],
            value="10",
            show_label=False,
            label="Questions in a session",
            elem_id="ab-length",
            scale=1,
        )
        parts["start"] = gr.Button("Start batch testing session", elem_id="ab-start", min_width=165, scale=2)
        parts["end"] = gr.Button("End session", visible=False, elem_id="ab-end", min_width=165, scale=2)
    return parts


def _pair() -> dict[str, Any]:
    """Question, answers, and the buttons to vote with."""
    import gradio as gr

    parts: dict[str, Any] = {}
    empty = Visit()
    parts["notice"] = gr.HTML(elem_id="ab-notice", elem_classes="ab-line", js_on_load=into_view("p"))
    parts["batch"] = gr.HTML(elem_id="ab-batch", elem_classes="ab-line")
    parts["question"] = gr.HTML(elem_id="ab-question", elem_classes="ab-line", js_on_load=ab_style.LOOK_UP)
    with gr.Row(equal_height=True):
        for side in ab_view.LETTER:
            with gr.Column(min_width=300, elem_classes="ab-cell"):
                parts[f"card_{side}"] = gr.HTML(ab_view.card(side, None, empty), elem_id=f"ab-card-{side}")
    parts |= _bar()
    return parts


def _bar() -> dict[str, Any]:
    """What stays on screen, however long the answers are: what the last vote was, and what to press now."""
    import gradio as gr

    parts: dict[str, Any] = {}
    with gr.Column(elem_id="ab-bar"):
        parts["result"] = gr.HTML(elem_id="ab-result", elem_classes="ab-line", js_on_load=ab_style.SLIPPED)
        with gr.Row(elem_id="ab-votes"):
            for side, letter in ab_view.LETTER.items():
                parts[side] = gr.Button(
                    f"Select Model {letter}",
                    variant="primary",
                    interactive=False,
                    elem_id=f"ab-{side}",
                    min_width=120,
                    scale=2,
                )
            for name, label in (("tie", "Tie"), ("both_bad", "Both bad"), ("skip", "Skip")):
                elem_id = f"ab-{name.replace('_', '-')}"
                parts[name] = gr.Button(label, interactive=False, elem_id=elem_id, min_width=100)
            parts["next"] = gr.Button("Next comparison", variant="primary", visible=False, elem_id="ab-next")
    return parts


def _why() -> dict[str, Any]:
    """Why somebody is about to vote so: sent with the vote, and asked of nobody who does not open it."""
    import gradio as gr

    parts: dict[str, Any] = {}
    with gr.Accordion("Why? (optional)", open=False, elem_id="ab-why"):
        with gr.Row():
            parts["strength"] = gr.Radio(
                [("Better", ""), *_choices(STRENGTH_LABELS)], value="", label="The one I choose is", min_width=260
            )
            parts["tags"] = gr.CheckboxGroup(_choices(TAG_LABELS), label="It is", min_width=260)
        parts["words"] = gr.Textbox(label="In your words", max_length=LONGEST_REASON, elem_id="ab-words")
    return parts


def _choices(labels: Mapping[Any, str]) -> list[tuple[str, str]]:
    return [(label.capitalize(), name) for name, label in labels.items()]


def _outcome() -> dict[str, Any]:
    """What comes next, beside the next comparison."""
    import gradio as gr

    parts: dict[str, Any] = {}
    with gr.Row(visible=False, equal_height=True) as parts["further"]:
        parts["follow"] = gr.Textbox(
            label="Go on with this conversation",
            placeholder="Ask a follow-up: two models answer it after the answer you chose",
            max_lines=6,
            max_length=LONGEST_QUESTION,
            elem_id="ab-follow",
            min_width=240,
            scale=5,
        )
        parts["go_on"] = gr.Button("Ask", elem_id="ab-go-on", min_width=120, scale=1)
    gr.HTML(ab_style.KEYS_HINT)
    return parts
