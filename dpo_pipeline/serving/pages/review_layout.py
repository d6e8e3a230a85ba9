"""What the review page is made of, and its keys."""

from dataclasses import asdict
from typing import Any, get_args
from urllib.parse import urlencode

from dpo_pipeline.core.labels import JUDGEMENTS
from dpo_pipeline.core.questions import CATEGORIES
from dpo_pipeline.core.validated_pair import CORRECTION, EXCLUDED, JUDGEMENT, MEANINGS, PairFilter, ValidatedPair
from dpo_pipeline.core.votes import Source
from dpo_pipeline.serving.pages.markdown import TOGGLE, formatted
from dpo_pipeline.serving.pages.markup import (
    Markup,
    boxed,
    differing,
    figures,
    heading,
    opening,
    page,
    paragraph,
    quoted,
    text,
)
from dpo_pipeline.serving.services.reviews import Order, ReviewedPair, ReviewPage

ANY = "any"
LABEL_CHARACTERS = 90
EMPTY = (
    "No validated preferences yet: vote on the A/B test page. While Dagster runs (`make up`), new votes are validated "
    "automatically; otherwise launch the job ingest_and_validate."
)
NOTHING = "Nothing matches these filters. Widen them: choose “any”, or clear the text."
LIST_STYLE = Markup(
    "<style>#review-list .wrap { flex-direction: column; align-items: stretch; } "
    "#review-list label { white-space: normal; text-align: left; overflow-wrap: anywhere; }</style>"
)
# One pair on or back, exclude it, undo: while nobody is typing or choosing from a list.
KEYS = """
(() => {
  const own = "input:not([type=radio]), textarea, select, [contenteditable=true], [role=listbox], [role=combobox]";
  const step = by => {
    const pairs = [...document.querySelectorAll("#review-list input[type=radio]")];
    const next = pairs[pairs.findIndex(pair => pair.checked) + by];
    if (next) next.click();
    else document.getElementById(by > 0 ? "review-older" : "review-newer")?.click();
  };
  const press = id => { const button = document.getElementById(id); if (button?.offsetParent) button.click(); };
  const keys = {
    j: () => step(1), k: () => step(-1), u: () => press("review-undo"),
    e: () => {
      const reason = document.querySelector("#reason textarea, #reason input");
      if (reason?.value.trim()) press("review-exclude"); else reason?.focus();
    },
  };
  document.addEventListener("keydown", event => {
    const act = keys[event.key.toLowerCase()];
    if (!act || event.repeat || event.ctrlKey || event.metaKey || event.altKey) return;
    if (!document.getElementById("review-list") || event.target.closest?.(own)) return;
    event.preventDefault();
    act();
  });
})();
"""
KEYS_HINT = Markup(
    '<p class="ab-keys">'
    + "".join(
        f"<span><kbd>{key}</kbd> {what}</span>"
        for key, what in (("J", "Next pair"), ("K", "Pair before"), ("E", "Exclude, with the reason"), ("U", "Undo"))
    )
    + "</p>"
)


class ReviewLayout:
    """The components, and what they show."""

    def __init__(self, gr: Any):
        self._gr = gr
        with gr.Row():
            self.filters = [
                gr.Radio(["all", "valid", "rejected"], value="all", label="Validation", scale=2, min_width=290),
                gr.Dropdown([ANY, *MEANINGS], value=ANY, label="Criterion", min_width=150, elem_id="filter-criterion"),
                gr.Dropdown(
                    [ANY, *CATEGORIES, "other"], value=ANY, label="Category", min_width=150, elem_id="filter-category"
                ),
                gr.Dropdown([ANY], value=ANY, label="Version", min_width=110),
                gr.Dropdown(
                    [ANY, *get_args(Source), CORRECTION, *JUDGEMENTS],
                    value=ANY,
                    label="Source",
                    min_width=110,
                    elem_id="filter-source",
                ),
                gr.Textbox(label="Text", placeholder="question or answers", max_length=200, min_width=190),
            ]
        self.count = gr.HTML(page(paragraph("Loading…", "muted")), elem_id="review-count")
        with gr.Row():
            with gr.Column(scale=2, min_width=300):
                gr.HTML(page(LIST_STYLE))
                self.list = gr.Radio([], label="Newest first", elem_id="review-list", visible=False)
                with gr.Row():
                    self.back = gr.Button("Newer", size="sm", min_width=80, elem_id="review-newer")
                    self.on = gr.Button("Older", size="sm", min_width=80, elem_id="review-older")
                gr.HTML(page(KEYS_HINT))
            with gr.Column(scale=3, min_width=300):
                self.guidelines = gr.HTML(page(), elem_id="guidelines")
                self.pair = gr.HTML(page(), elem_id="review-pair")
                with gr.Group(visible=False) as self.orders:
                    self.reason = gr.Textbox(label="Reason", max_length=500, elem_id="reason")
                    self.key = gr.Textbox(label="Your key, if you are not signed in", type="password", elem_id="key")
                    with gr.Row():
                        self.exclude = gr.Button("Exclude from training", min_width=120, elem_id="review-exclude")
                        self.restore = gr.Button("Restore", min_width=120)
                        self.undo = gr.Button("Undo", visible=False, min_width=80, elem_id="review-undo")
                    with gr.Row():
                        self.exclude_all = gr.Button("Exclude all that match …", size="sm", min_width=150)
                        self.restore_all = gr.Button("Restore all that match …", size="sm", min_width=150)
                    with gr.Column(visible=False) as self.confirmation:
                        self.question = gr.HTML(page(), elem_id="asked")
                        with gr.Row():
                            self.yes = gr.Button("Yes", variant="stop", size="sm", min_width=120)
                            self.no = gr.Button("Cancel", size="sm", min_width=120)
                self.told = gr.HTML(page(), elem_id="told")
        parts = [self.count, self.list, self.back, self.on, self.pair, self.orders, self.reason, self.exclude]
        asked = [self.undo, self.guidelines, self.confirmation, self.question, self.yes]
        self.outputs = [*parts, *asked, self.restore, self.told, self.filters[3]]

    def advice(self, guidelines: str) -> str:
        return page(opening("Guidelines of the team", boxed(formatted(guidelines)))) if guidelines else page()

    def asked(self, action: Order, count: int) -> dict[Any, Any]:
        """Nothing is done to many pairs at once without a person having seen how many."""
        gr, what = self._gr, {"exclude": "Exclude", "restore": "Restore"}[action]
        pairs = f"{count} pair" if count == 1 else f"{count} pairs"
        told = f"{what} {pairs}: all that match the filters above, on every page, with the one reason given."
        return {
            self.confirmation: gr.update(visible=True),
            self.question: page(paragraph(told if count else f"No matching pair is left to {what.lower()}.", "asks")),
            self.yes: gr.update(value=f"{what} {pairs}", visible=count > 0),
            self.told: page(),
        }

    def unasked(self) -> dict[Any, Any]:
        return {self.confirmation: self._gr.update(visible=False)}

    def listed(self, listed: ReviewPage, chosen: ReviewedPair | None, wanted: PairFilter) -> dict[Any, Any]:
        gr = self._gr
        if not listed.collected:
            said = paragraph(EMPTY, "notice")
        elif not listed.fits:
            said = paragraph(NOTHING, "notice")
        else:
            where = f"page {listed.number + 1} of {listed.pages}"
            shown = f"{listed.fits} of the newest {listed.collected} validated preferences, {where}"
            said = Markup(f'<p class="muted">{text(shown)}. {_downloads(wanted)}</p>')
        choices = [(_label(seen.pair), seen.pair.event_id) for seen in listed.rows]
        return {
            self.count: page(said),
            self.list: gr.update(
                choices=choices, value=chosen.pair.event_id if chosen in listed.rows else None, visible=bool(choices)
            ),
            self.back: gr.update(interactive=listed.number > 0),
            self.on: gr.update(interactive=listed.number + 1 < listed.pages),
            **self.reading(chosen),
        }

    def reading(self, seen: ReviewedPair | None) -> dict[Any, Any]:
        gr = self._gr
        if seen is None:
            return {self.pair: page(), self.orders: gr.update(visible=False)}
        return {
            self.pair: page(_pair(seen)),
            self.orders: gr.update(visible=True),
            self.exclude: gr.update(visible=EXCLUDED not in seen.pair.failed),
            self.restore: gr.update(visible=seen.pair.taken_out),
        }


def _downloads(wanted: PairFilter) -> Markup:
    """Links to what the filters let through, in the forms of `core.pair_export`."""
    asked = {name: value for name, value in asdict(wanted).items() if value}
    links = (
        f'<a href="/v1/preferences?{text(urlencode(asked | {"form": form}))}" download>{name}</a>'
        for form, name in (("trl", "TRL"), ("llamafactory", "LLaMA-Factory"))
    )
    return Markup(f"Download these pairs for {' or '.join(links)}")


def _label(pair: ValidatedPair) -> str:
    question = " ".join(pair.prompt.split())
    if len(question) > LABEL_CHARACTERS:
        question = question[:LABEL_CHARACTERS].rstrip() + "…"
    result = "✓ valid" if pair.valid else f"✗ {', '.join(pair.failed)}"
    return f"{question} — {result}"


def _pair(seen: ReviewedPair) -> Markup:
    pair = seen.pair
    facts = figures([("Vote", _vote(pair)), ("Category", pair.category), ("Source", pair.source)])
    why = [paragraph(f"Why, by the voter: {pair.why}")] if str(pair.why) else []
    origin = f"{pair.recorded_at} by {pair.annotator}, {pair.event_id}"
    parts = [facts, *why, paragraph(origin, "muted"), _result(seen), heading("Question"), quoted(pair.prompt)]
    alone = pair.model_b == JUDGEMENT
    answers = [("Answer A", "a", pair.model_a, pair.response_a), ("Answer B", "b", pair.model_b, pair.response_b)]
    sides = "".join(
        f"<section>{heading(f'{name}, {model}{_won(pair.vote, letter)}')}{boxed(formatted(answer))}</section>"
        for name, letter, model, answer in (answers[:1] if alone else answers)
    )
    names = f"Answer A, {pair.model_a}", f"Answer B, {pair.model_b}"
    words = "" if alone else opening("Words that differ", differing(names, (pair.response_a, pair.response_b)))
    return Markup("".join(parts) + f'<div class="sides">{sides}</div>{TOGGLE}{words}')


def _vote(pair: ValidatedPair) -> str:
    if pair.source == CORRECTION:
        return "A was corrected to B"
    if pair.model_b == JUDGEMENT:
        return f"A alone was judged: {pair.response_b}"
    return {"a": "A is better", "b": "B is better", "tie": "tie", "both_bad": "both bad"}[pair.vote]


def _won(vote: str, letter: str) -> str:
    return ": chosen" if vote == letter else ": rejected" if vote in ("a", "b") else ""


def _result(seen: ReviewedPair) -> Markup:
    pair = seen.pair
    if pair.valid:
        said = Markup("<b>Valid</b>: it meets every criterion.")
    else:
        causes = "".join(f"<li><b>{text(name)}</b>: {text(MEANINGS.get(name, ''))}</li>" for name in pair.failed)
        reason = f"<br>Reason: {text(pair.reason)}" if pair.reason else ""
        said = Markup(f"<b>Rejected</b><ul>{causes}</ul>{reason}")
    wait = "" if seen.in_effect else paragraph("Takes effect after the next curation run.", "muted")
    return Markup(f'<div class="notice">{said}</div>{wait}')
