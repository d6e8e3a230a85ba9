"""One version: what it is worth, what it learned from, what became of it, and how to load it or train it again."""

from collections.abc import Callable, Sequence
from typing import Any
from zoneinfo import ZoneInfo

from dpo_pipeline.core.calendar import as_read
from dpo_pipeline.core.questions import category_label
from dpo_pipeline.core.verdict import JudgedAnswer
from dpo_pipeline.core.version_card import CardFacts, headline, load_snippet, reproduce
from dpo_pipeline.core.versions import VersionRecord
from dpo_pipeline.serving.assembly import Serving
from dpo_pipeline.serving.pages.markdown import formatted
from dpo_pipeline.serving.pages.markup import (
    Markup,
    chip,
    differing,
    figures,
    heading,
    intervals,
    link,
    opening,
    page,
    paragraph,
    table,
    text,
)
from dpo_pipeline.serving.pages.polling import following
from dpo_pipeline.serving.pages.rollout_view import timeline
from dpo_pipeline.serving.pages.version_link import link_to
from dpo_pipeline.serving.services.versions import VersionView

REFRESH_S = 15.0
EMPTY = "No version yet: the first one is being built. This page updates itself."
KIND = {"champion": "ok", "rolling_out": "watching", "rolled_back": "triggered"}


def build(serving: Callable[[], Serving]) -> None:
    """The page, in the gr.Blocks context that is open."""
    import gradio as gr

    shown = gr.HTML(page(paragraph("Reading the ledger…", "muted")), elem_id="versions")

    def look(_: object, request: gr.Request) -> str:
        records, zone = serving().versions.records(), serving().settings.zone
        if not records:
            return page(paragraph(EMPTY, "notice"))
        asked = request.query_params.get("name") or records[-1].name
        return page(_one(serving().versions.look(asked), zone), _all(records, zone))

    following(shown, look, REFRESH_S)


def _all(records: Sequence[VersionRecord], zone: ZoneInfo) -> Markup:
    rows = [
        (
            link_to(record.name),
            _status(record.status),
            record.parent or "",
            "" if record.pairs is None else f"{record.pairs:,}",
            "" if record.win_rate is None else f"{record.win_rate:.1%}",
            as_read(record.updated_at, zone),
        )
        for record in reversed(records)
    ]
    head = ["Version", "Status", "Parent", "Pairs", "Win rate over the parent", "Changed"]
    return Markup(heading("All versions") + table("Newest first", head, rows, numbers=(3, 4)))


def _one(seen: VersionView, zone: ZoneInfo) -> Markup:
    record, facts = seen.record, seen.facts
    values: list[tuple[str, object]] = [("Parent", record.parent or "none")]
    if record.pairs:
        values.append(("Pairs", f"{record.pairs:,}"))
    if record.win_rate is not None:
        values.append(("Win rate", f"{record.win_rate:.1%}"))
    if facts.words is not None:
        values.append(("Words per answer", f"{facts.words:.0f}"))
    if facts.satisfaction is not None:
        values.append(("Satisfaction", f"{facts.satisfaction:.2f} of 5"))
    parts = [
        heading(Markup(f"{text(record.name)} {_status(record.status)}")),
        paragraph(headline(facts), "notice"),
        figures(values),
        _evaluation(facts),
        paragraph(link("The whole evaluation, with plots and answers", f"/v1/versions/{record.name}/evaluation"))
        if seen.has_report
        else Markup(""),
        _examples(facts, "Answers it lost, the clearest first", seen.examples.lost),
        _examples(facts, "Answers it won", seen.examples.won),
        heading("What became of it") + timeline(seen.decisions, zone) if seen.decisions else Markup(""),
        heading("Load it") + formatted(f"```python\n{load_snippet(facts)}\n```") if facts.adapter_sha else Markup(""),
        heading("Train it again"),
        formatted(f"```sh\n{reproduce(facts)}\n```"),
    ]
    return Markup("".join(parts))


def _evaluation(facts: CardFacts) -> Markup:
    found: dict[str, Any] = facts.evaluation or {}
    if not found:
        return Markup("")
    reasons = "".join(f"<li>{text(reason)}</li>" for reason in found.get("reasons", ()))
    by_category = {category_label(name): rate for name, rate in found.get("by_category", {}).items()}
    rates = {"All questions": found.get("overall") or {}, **by_category}
    rows = [
        (name, rate["low"], rate["rate"], rate["high"], f"{rate['rate']:.1%} [{rate['low']:.0%}, {rate['high']:.0%}]")
        for name, rate in rates.items()
        if rate.get("rate") is not None and rate.get("low") is not None
    ]
    plot = (
        intervals(f"Win rate over {facts.parent}", rows, mark=0.5, bounds=(0.0, 1.0), share=True)
        if rows
        else Markup("")
    )
    told = paragraph(
        f"Win rate over {facts.parent} on questions that neither was trained on; the thin line is 50 %.", "muted"
    )
    return Markup(f"{heading('Evaluation')}<ul>{reasons}</ul>{plot}{told}")


def _examples(facts: CardFacts, title: str, answers: Sequence[JudgedAnswer]) -> Markup:
    """Each question opens its two answers."""
    names = facts.name, str(facts.parent)
    shown = "".join(opening(each.question, differing(names, (each.answer, each.parent_answer))) for each in answers)
    return Markup(heading(title) + shown) if answers else Markup("")


def _status(status: str) -> Markup:
    return chip(status.replace("_", " "), KIND.get(status, "none"))
