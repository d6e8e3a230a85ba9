"""What the review page is made of, and its keys."""

from dataclasses import asdict
from typing import Any, get_args
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

from dpo_pipeline.core.calendar import as_read
from dpo_pipeline.core.labels import JUDGEMENTS
from dpo_pipeline.core.questions import CATEGORIES, category_label
from dpo_pipeline.core.source_names import source_name
from dpo_pipeline.core.validated_pair import (
    CORRECTION,
    EXCLUDED,
    MEANINGS,
    SET_ASIDE,
    SHORT_MEANINGS,
    WITHDRAWN,
    PairFilter,
    ValidatedPair,
)
from dpo_pipeline.core.votes import Source
from dpo_pipeline.serving.pages.markdown import TOGGLE, formatted
from dpo_pipeline.serving.pages.markup import (
    Markup,
    boxed,
    chip,
    differing,
    figures,
    heading,
    opening,
    page,
    paragraph,
    quoted,
    text,
    told_here,
)
from dpo_pipeline.serving.pages.review_keys import JUMPS, KEYS_HINT, LIST_STYLE, STEPS
from dpo_pipeline.serving.pages.select import select
from dpo_pipeline.serving.services.reviews import Order, ReviewedPair, ReviewPage

ANY = "any"
LABEL_CHARACTERS = 90
EMPTY = (
    "No validated preferences yet: vote on the A/B test page. While Dagster runs (make up), new votes are validated "
    "automatically; otherwise launch the job ingest_and_validate."
)
NOTHING = "Nothing matches these filters. Widen them: choose “any”, or clear the text."
REVIEWED = [(ANY, ANY), ("to review", "open"), ("reviewed", "done")]
SOURCES = (*get_args(Source), CORRECTION, *JUDGEMENTS)


class ReviewLayout:
    """The components, and what they show."""

    def __init__(self, gr: Any):
        self._gr = gr
        criteria = [(ANY, ANY), *((words, name) for name, words in SHORT_MEANINGS.items())]
        categories = [(ANY, ANY), *((category_label(name), name) for name in (*CATEGORIES, "other"))]
        sources = [(ANY, ANY), *((source_name(name).one, name) for name in SOURCES)]
        with gr.Column(elem_id="review-page"):
            with gr.Row(elem_id="review-filters"):
                self.filters = [
                    gr.Radio(["all", "valid", "rejected"], value="all", label="Validation", scale=3, min_width=290),
                    select(criteria, label="Criterion", elem_id="filter-criterion"),
                    select(categories, label="Category", elem_id="filter-category"),
                    select([(ANY, ANY)], label="Version", elem_id="filter-version"),
                    select(sources, label="Source", elem_id="filter-source"),
                    gr.Textbox(label="Text", placeholder="question or answers", max_length=200, min_width=150),
                    select(REVIEWED, label="Review", elem_id="filter-review"),
                ]
            self.count = gr.HTML(page(paragraph("Loading…", "muted")), elem_id="review-count")
            with gr.Row():
                with gr.Column(scale=2, min_width=300):
                    gr.HTML(page(LIST_STYLE))
                    self.list = gr.Radio(
                        [], label="To review first, the newest first", elem_id="review-list", visible=False
                    )
                    with gr.Row():
                        self.back = gr.Button("Newer", size="sm", min_width=80, elem_id="review-newer")
                        self.on = gr.Button("Older", size="sm", min_width=80, elem_id="review-older")
                    gr.HTML(page(KEYS_HINT))
                with gr.Column(scale=3, min_width=300, elem_id="review-reading"):
                    gr.HTML(page(STEPS), elem_id="review-steps")
                    self.guidelines = gr.HTML(page(), elem_id="guidelines")
                    self.pair = gr.HTML(page(), elem_id="review-pair")
                    with gr.Group(visible=False) as self.orders:
                        self.reason = gr.Textbox(label="Reason", max_length=500, elem_id="reason")
                        self.key = gr.Textbox(
                            label="Your key, if you are not signed in", type="password", elem_id="key"
                        )
                        with gr.Row():
                            self.keep = gr.Button(
                                "Looks right", variant="primary", min_width=120, elem_id="review-keep"
                            )
                            self.exclude = gr.Button("Exclude from training", min_width=120, elem_id="review-exclude")
                            self.restore = gr.Button("Restore", min_width=120)
                            self.undo = gr.Button("Undo", visible=False, min_width=80, elem_id="review-undo")
                        with gr.Row():
                            self.exclude_all = gr.Button("Exclude all that match …", size="sm", min_width=150)
                            self.restore_all = gr.Button("Restore all that match …", size="sm", min_width=150)
                        with gr.Column(visible=False) as self.confirmation:
                            self.question = gr.HTML(page(), elem_id="asked")
                            with gr.Row():
                                self.yes = gr.Button(
                                    "Yes", variant="stop", size="sm", min_width=120, elem_id="review-yes"
                                )
                                self.no = gr.Button("Cancel", size="sm", min_width=120)
                    self.told = told_here()
        parts = [self.count, self.list, self.back, self.on, self.pair, self.orders, self.reason, self.exclude]
        asked = [self.keep, self.undo, self.guidelines, self.confirmation, self.question, self.yes]
        self.outputs = [*parts, *asked, self.restore, self.told, self.filters[3]]

    def advice(self, guidelines: str) -> str:
        return page(opening("Guidelines of the team", boxed(formatted(guidelines)))) if guidelines else page()

    def asked(self, action: Order, count: int) -> dict[Any, Any]:
        """Nothing is done to many pairs at once without a person having seen how many."""
        gr, what = self._gr, action.capitalize()
        pairs = f"{count} pair" if count == 1 else f"{count} pairs"
        told = f"{what} {pairs}: all that match the filters, on every page, each with this reason."
        return {
            self.confirmation: gr.update(visible=True),
            self.question: page(paragraph(told if count else f"No matching pair is left to {what.lower()}.", "asks")),
            self.yes: gr.update(value=f"{what} {pairs}", visible=count > 0),
            self.told: page(),
        }

    def unasked(self) -> dict[Any, Any]:
        return {self.confirmation: self._gr.update(visible=False)}

    def listed(
        self, listed: ReviewPage, chosen: ReviewedPair | None, wanted: PairFilter, zone: ZoneInfo
    ) -> dict[Any, Any]:
        gr = self._gr
        if not listed.collected:
            said = paragraph(EMPTY, "notice")
        elif not listed.fits:
            said = paragraph(NOTHING, "notice")
        else:
            where = f"page {listed.number + 1} of {listed.pages}"
            shown = f"{listed.fits} of the newest {listed.collected} validated preferences, {where}"
            done = f"<b>{listed.reviewed:,} of {listed.reviewable:,} reviewed</b>"
            said = Markup(f'<p class="muted">{done}. {text(shown)}. {_downloads(wanted)}</p>{JUMPS}')
        choices = [(_label(seen), seen.pair.event_id) for seen in listed.rows]
        return {
            self.count: page(said),
            self.list: gr.update(
                choices=choices, value=chosen.pair.event_id if chosen in listed.rows else None, visible=bool(choices)
            ),
            self.back: gr.update(interactive=listed.number > 0),
            self.on: gr.update(interactive=listed.number + 1 < listed.pages),
            **self.reading(chosen, zone),
        }

    def reading(self, seen: ReviewedPair | None, zone: ZoneInfo) -> dict[Any, Any]:
        gr = self._gr
        if seen is None:
            return {self.pair: page(), self.orders: gr.update(visible=False)}
        return {
            self.pair: page(pair_shown(seen, zone)),
            self.keep: gr.update(visible=not (seen.reviewed or seen.pair.taken_out)),
            self.orders: gr.update(visible=True),
            self.exclude: gr.update(visible=not {EXCLUDED, WITHDRAWN} & set(seen.pair.failed)),
            self.restore: gr.update(visible=seen.pair.taken_out and WITHDRAWN not in seen.pair.failed),
        }


def _downloads(wanted: PairFilter) -> Markup:
    """Links to what the filters let through, in the forms of `core.pair_export`."""
    asked = {name: value for name, value in asdict(wanted).items() if value}
    links = (
        f'<a href="/v1/preferences?{text(urlencode(asked | {"form": form}))}" download>{name}</a>'
        for form, name in (("trl", "TRL"), ("llamafactory", "LLaMA-Factory"))
    )
    return Markup(f"Download these pairs for {' or '.join(links)}")


def _label(seen: ReviewedPair) -> str:
    pair = seen.pair
    question = " ".join(pair.prompt.split())
    if len(question) > LABEL_CHARACTERS:
        question = question[:LABEL_CHARACTERS].rstrip() + "…"
    result = "✓ valid" if pair.valid else f"✗ {', '.join(SHORT_MEANINGS.get(name, name) for name in pair.failed)}"
    return f"{question} — {result}{' · reviewed' if seen.reviewed else ''}"


def pair_shown(seen: ReviewedPair, zone: ZoneInfo) -> Markup:
    pair = seen.pair
    facts = figures(
        [("Vote", _vote(pair)), ("Category", category_label(pair.category)), ("Source", source_name(pair.source).one)]
    )
    why = [paragraph(f"Why, by the voter: {pair.why}")] if str(pair.why) else []
    origin = f"{as_read(pair.recorded_at, zone)} by {pair.annotator}, {pair.event_id}"
    parts = [facts, *why, paragraph(origin, "muted"), _result(seen), heading("Question"), quoted(pair.prompt)]
    alone = pair.is_judgement
    answers = [
        (f"Answer A, {pair.model_a}{_won(pair.vote, 'a')}", pair.response_a),
        (f"Answer B, {pair.model_b}{_won(pair.vote, 'b')}", pair.response_b),
    ]
    if alone:
        answers = [(f"Answer, {pair.model_a}", pair.response_a)]
    sides = "".join(f"<section>{heading(name)}{boxed(formatted(answer))}</section>" for name, answer in answers)
    names = f"Answer A, {pair.model_a}", f"Answer B, {pair.model_b}"
    words = "" if alone else opening("Words that differ", differing(names, (pair.response_a, pair.response_b)))
    return Markup("".join(parts) + f'<div class="sides">{sides}</div>{TOGGLE}{words}')


def _vote(pair: ValidatedPair) -> str:
    if pair.source == CORRECTION:
        return "A was corrected to B"
    if pair.is_judgement:
        return f"one answer alone: {pair.response_b}"
    return {"a": "A is better", "b": "B is better", "tie": "tie", "both_bad": "both bad"}[pair.vote]


def _won(vote: str, letter: str) -> str:
    return ": chosen" if vote == letter else ": rejected" if vote in ("a", "b") else ""


def _result(seen: ReviewedPair) -> Markup:
    pair, reviewed = seen.pair, f" {chip('reviewed', 'ok')}" if seen.reviewed else ""
    if pair.valid:
        said = Markup(f"<b>Valid</b>: it passes all checks.{reviewed}")
    else:
        causes = "".join(
            f"<li><b>{text(SHORT_MEANINGS.get(name, name))}</b>: {text(MEANINGS.get(name, ''))}</li>"
            for name in pair.failed
        )
        reason = f"<br>Reason: {text(pair.reason)}" if pair.reason else ""
        said = Markup(f"<b>{_refusal(pair)}</b>{reviewed}<ul>{causes}</ul>{reason}")
    wait = "" if seen.in_effect else paragraph("Takes effect after the next curation run.", "muted")
    return Markup(f'<div class="notice">{said}</div>{wait}')


def _refusal(pair: ValidatedPair) -> str:
    """What is not trained on was not always refused by a check."""
    names: dict[tuple[str, ...], str] = {(SET_ASIDE,): "Set aside", (EXCLUDED,): "Excluded", (WITHDRAWN,): "Taken back"}
    return names.get(pair.failed, "Rejected")
