"""The page of a version as HTML: what it is worth, how it learned and from whom, what became of it, how to have it."""

from collections.abc import Sequence
from typing import Any
from zoneinfo import ZoneInfo

from dpo_pipeline.core.calendar import as_read
from dpo_pipeline.core.questions import category_label
from dpo_pipeline.core.source_names import source_name
from dpo_pipeline.core.teachers import Teachers
from dpo_pipeline.core.verdict import JudgedAnswer
from dpo_pipeline.core.version_card import CardFacts, headline, load_snippet, reproduce, trained_on, warning
from dpo_pipeline.core.versions import BASELINE, VersionRecord
from dpo_pipeline.in_words import spoken
from dpo_pipeline.serving.pages.curve_plot import curve_plots
from dpo_pipeline.serving.pages.markdown import TOGGLE, formatted
from dpo_pipeline.serving.pages.markup import (
    Markup,
    boxed,
    chip,
    differing,
    figures,
    heading,
    link,
    opening,
    paragraph,
    table,
    text,
)
from dpo_pipeline.serving.pages.markup_plots import intervals
from dpo_pipeline.serving.pages.rollout_history import timeline
from dpo_pipeline.serving.pages.version_link import link_to, report_links
from dpo_pipeline.serving.services.versions import VersionView

KIND = {"champion": "ok", "rolling_out": "watching", "rolled_back": "triggered"}


def version_list(records: Sequence[VersionRecord], zone: ZoneInfo) -> Markup:
    rows = [
        (
            link_to(record.name),
            status_chip(record.status),
            record.parent or "",
            "" if record.pairs is None else f"{record.pairs:,}",
            "" if record.win_rate is None else f"{record.win_rate:.1%}",
            as_read(record.updated_at, zone),
        )
        for record in reversed(records)
    ]
    head = ["Version", "Status", "Parent", "Pairs", "Win rate over the parent", "Changed"]
    listed = table("Newest first", head, rows, numbers=(3, 4))
    return Markup(heading("All versions") + listed + report_links())


def version_view(seen: VersionView, teachers: Teachers | None, person: str | None, zone: ZoneInfo) -> Markup:
    """
    Args:
        teachers: null while they are counted.
        person: pseudonym of whoever looks; null: not known yet.
    """
    record, facts = seen.record, seen.facts
    parts = [
        _worth(record, facts),
        _evaluation(facts),
        _examples(facts, "Answers it lost, the clearest first", seen.examples.lost),
        _examples(facts, "Answers it won, the clearest first", seen.examples.won),
        TOGGLE if seen.examples.won or seen.examples.lost else Markup(""),
        _training(seen),
        _taught(facts, teachers, person),
        heading("What became of it") + timeline(seen.decisions, zone) if seen.decisions else Markup(""),
        _to_have(seen),
    ]
    return Markup("".join(parts))


def status_chip(status: str, warned: bool = False) -> Markup:
    """
    Args:
        warned: what it is worth comes with a warning: no green beside that.
    """
    kind = KIND.get(status, "none")
    return chip(spoken(status), "watching" if warned and kind == "ok" else kind)


def _worth(record: VersionRecord, facts: CardFacts) -> Markup:
    values: list[tuple[str, object]] = [("Parent", link_to(record.parent) if record.parent else "none")]
    if record.pairs:
        values.append(("Pairs", f"{record.pairs:,}"))
    if record.win_rate is not None:
        values.append(("Win rate", f"{record.win_rate:.1%}"))
    if facts.words is not None:
        values.append(("Words per answer", f"{facts.words:.0f}"))
    if facts.satisfaction is not None:
        values.append(("Satisfaction", f"{facts.satisfaction:.2f} of 5"))
    warned = warning(facts)
    title = heading(Markup(f"{text(record.name)} {status_chip(record.status, bool(warned))}"))
    if not warned:
        return Markup(title + paragraph(headline(facts), "notice") + figures(values))
    told = Markup(f"<b>{text(headline(facts))}</b><br>{text(warned)}")
    return Markup(title + paragraph(told, "notice warned") + figures(values))


def _evaluation(facts: CardFacts) -> Markup:
    found: dict[str, Any] = facts.evaluation or {}
    if not found:
        return Markup("")
    reasons = "".join(f"<li>{text(reason)}</li>" for reason in found.get("reasons", ()))
    by_category = {category_label(name): rate for name, rate in found.get("by_category", {}).items()}
    rates = {"All questions": found.get("overall") or {}, **by_category}
    rows = [
        (
            name,
            rate["low"],
            rate["rate"],
            rate["high"],
            f"{rate['rate']:.1%} [{rate['low']:.0%}, {rate['high']:.0%}]",
        )
        for name, rate in rates.items()
        if rate.get("rate") is not None and rate.get("low") is not None
    ]
    title = f"Win rate over {facts.parent}"
    plot = intervals(title, rows, mark=0.5, bounds=(0.0, 1.0), share=True) if rows else Markup("")
    told = paragraph(f"{title} on questions that neither was trained on; the thin line is 50 %.", "muted")
    return Markup(f"{heading('Evaluation')}<ul>{reasons}</ul>{plot}{told}")


def _examples(facts: CardFacts, title: str, answers: Sequence[JudgedAnswer]) -> Markup:
    """Each question opens its two answers, as people read them, and below these the words that differ."""
    names = facts.name, str(facts.parent)
    shown = "".join(opening(_asked(each), _side_by_side(names, (each.answer, each.parent_answer))) for each in answers)
    return Markup(heading(title) + shown) if answers else Markup("")


def _asked(each: JudgedAnswer) -> Markup:
    return Markup(f'{text(each.question)} <span class="muted">{text(category_label(each.category))}</span>')


def _side_by_side(names: tuple[str, str], answers: tuple[str, str]) -> Markup:
    sides = zip(names, answers, strict=True)
    read = "".join(f"<section><b>{text(name)}</b>{boxed(formatted(said))}</section>" for name, said in sides)
    return Markup(f'<div class="sides">{read}</div>' + opening("Words that differ", differing(names, answers)))


def _training(seen: VersionView) -> Markup:
    plots = curve_plots(seen.curve)
    if not plots:
        return Markup("")
    at_end = {name: value for name, value in (seen.record.training_metrics or {}).items() if name != "demonstrations"}
    held = ""
    if {"loss", "rewards/margins", "rewards/accuracies"} <= at_end.keys():
        held = (
            f"On the held-out pairs, in the end: loss {at_end['loss']:.3g}, margin {at_end['rewards/margins']:.3g}, "
            f"accuracy {at_end['rewards/accuracies']:.0%}."
        )
    return Markup(heading("How the training went") + plots + (paragraph(held, "muted") if held else ""))


def _taught(facts: CardFacts, teachers: Teachers | None, person: str | None) -> Markup:
    """Whose feedback it learned from; the first version learned from nobody's."""
    if facts.name == BASELINE:
        return Markup(heading("What it learned from") + paragraph(f"It was {trained_on(facts)}."))
    if not facts.sources:
        return Markup("")
    rows = [
        (source_name(name).many, f"{count:,}") for name, count in sorted(facts.sources.items(), key=lambda of: -of[1])
    ]
    counted = table("What it was trained on, by where it comes from", ["Source", "Count"], rows, numbers=(1,))
    return Markup(heading("Whose feedback taught it") + counted + paragraph(_people(teachers, person)))


def _people(teachers: Teachers | None, person: str | None) -> Markup:
    if teachers is None:
        return Markup("Whose it was is being counted.")
    counts = (teachers.people, "person", "people"), (teachers.simulated, "simulated person", "simulated people")
    whose = " and ".join(_counted(*each) for each in counts if each[0])
    told = f"It comes from {whose}." if whose else "No person voted for it here."
    yours = teachers.of(person)
    return Markup(f"{told} <b>{_counted(yours, 'vote of yours', 'of your votes')}</b> taught it." if yours else told)


def _counted(count: int, one: str, several: str) -> str:
    return f"{count:,} {one if count == 1 else several}"


def _to_have(seen: VersionView) -> Markup:
    """How to load it, train it again, and take card and report along."""
    name, facts = seen.record.name, seen.facts
    parts = []
    if facts.adapter_sha:
        parts += [heading("Load it"), formatted(f"```python\n{load_snippet(facts)}\n```")]
    again = formatted(f"```sh\n{reproduce(facts)}\n```")
    parts += [heading("Train it again"), Markup(f'<div class="command">{again}</div>'), heading("Take it along")]
    links = [link("The model card, as Markdown", f"/v1/versions/{name}/card")]
    if seen.has_report:
        address = f"/v1/versions/{name}/evaluation"
        links.insert(0, link("The whole evaluation, with plots and answers", address))
        links.append(Markup(f'<a href="{address}" download="{name}-evaluation.html">The evaluation, as a file</a>'))
    return Markup("".join(parts) + "<ul>" + "".join(f"<li>{each}</li>" for each in links) + "</ul>")
