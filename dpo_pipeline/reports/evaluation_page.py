"""One version's evaluation on one page, from which a person can say why it was rolled out or not."""

from collections.abc import Sequence

from dpo_pipeline.core.diagnosis import Diagnosis
from dpo_pipeline.core.headline import verdict_headline
from dpo_pipeline.core.judged_examples import clearest
from dpo_pipeline.core.questions import category_label
from dpo_pipeline.core.verdict import EvaluationVerdict, JudgedAnswer
from dpo_pipeline.core.versions import page_of
from dpo_pipeline.core.winrate import WinRate
from dpo_pipeline.reports import plots
from dpo_pipeline.reports.page import ReportPage

TONE = {"improved": "verdict good", "not_improved": "verdict bad", "inconclusive": "verdict open"}


def evaluation_page(
    name: str,
    parent: str,
    verdict: EvaluationVerdict,
    answers: Sequence[JudgedAnswer],
    diagnosis: Diagnosis | None,
    embedded: bool = False,
) -> str:
    """Self-contained HTML.

    Args:
        diagnosis: why it is not improving; null where nothing is to be explained.
        embedded: both stand on the base model that was built from the question bank.
    """
    links = [(f"The page of {name}", page_of(name)), ("All versions", "/versions")]
    page = ReportPage(f"{name} against {parent}", f"Evaluation on {verdict.questions} held-out questions.", links)
    found = verdict_headline(
        verdict.verdict, parent, verdict.overall.rate, verdict.controlled, verdict.controlled_error
    )
    page.paragraph(found.sentence, "verdict open" if found.warning else TONE[verdict.verdict])
    if found.warning:
        page.paragraph(found.warning, "open")
    page.points(verdict.reasons)
    if embedded:
        page.paragraph(_EMBEDDED)
    page.heading("Win rate over the parent")
    page.figure(plots.inline(win_rates(verdict), height=plots.rows_in(_shown_rates(verdict))), _RATES)
    page.table(_rates(verdict))
    for warning in verdict.warnings:
        page.paragraph(f"Warning: {warning}", "open")
    page.heading("Length")
    page.figure(plots.inline(lengths(name, parent, answers)), "Words per answer, on the same questions.")
    page.heading("How far it moved, and how far to trust the judge")
    page.table(_measurements(verdict))
    if diagnosis:
        page.heading("Why it is not better, and what comes next")
        page.table(diagnosis.rows())
        page.paragraph(diagnosis.conclusion)
    examples = clearest(answers)
    _examples(page, name, parent, "Answers it lost, the clearest first", examples.lost)
    _examples(page, name, parent, "Answers it won, the clearest first", examples.won)
    return page.html()


def win_rates(verdict: EvaluationVerdict) -> plots.Draw:
    """Overall, by category, and of questions that do not gate."""
    return plots.intervals({name: (rate.rate, rate.low, rate.high) for name, rate in _shown_rates(verdict).items()})


def _shown_rates(verdict: EvaluationVerdict) -> dict[str, WinRate]:
    rows = {"All questions": verdict.overall}
    rows |= {category_label(category): rate for category, rate in verdict.by_category.items()}
    others = {origin: rate for origin, rate in verdict.by_origin.items() if origin != "bank"}
    return rows | {f"{category_label(origin)}*": rate for origin, rate in others.items()}


def lengths(name: str, parent: str, answers: Sequence[JudgedAnswer]) -> plots.Draw:
    ours, theirs = ([float(len(text.split())) for text in texts] for texts in _both(answers))
    return plots.two_histograms(ours, theirs, (name, parent), "words per answer")


_RATES = (
    "Each question counts once. Lines are intervals that allow for every attempt at this version; right of the dotted "
    "line is better than the parent. *: not part of the verdict."
)


_EMBEDDED = (
    "The embedded base model has learned the bank, these questions included, and to decline these harmful requests. "
    "Held out means that no adapter was trained on them, and that nobody votes on them."
)


def _rates(verdict: EvaluationVerdict) -> list[dict[str, object]]:
    table = [
        _rate_row(name, rate.count, rate.rate, rate.low, rate.high) for name, rate in _shown_rates(verdict).items()
    ]
    error = verdict.controlled_error
    if verdict.controlled is not None:
        low, high = (None, None) if error is None else (verdict.controlled - 2 * error, verdict.controlled + 2 * error)
        table.append(_rate_row("All, at equal lengths*", verdict.overall.count, verdict.controlled, low, high))
    return table


def _rate_row(name: str, answers: int, rate: float | None, low: float | None, high: float | None) -> dict[str, object]:
    shares = {"Win rate": rate, "Low": low, "High": high}
    told = {what: None if share is None else f"{min(max(share, 0.0), 1.0):.1%}" for what, share in shares.items()}
    return {"Questions": name, "Answers": answers, **told}


def _measurements(verdict: EvaluationVerdict) -> list[dict[str, object]]:
    measured = verdict.measured
    drift = measured.drift
    shift = drift.chosen_shift if drift else None
    return [
        {"What": "judge", "Measured": measured.judge,
         "Meaning": f"blind to {measured.blind_to}" if measured.blind_to else None},
        {"What": "agreement with people's held-out votes", "Measured": str(measured.trust or "no held-out votes"),
         "Meaning": "half is what a coin would reach"},
        {"What": "agreement with people elsewhere", "Measured": None if measured.judge_elsewhere else "not measured",
         "Meaning": measured.judge_elsewhere or "on data of others"},
        {"What": "unreadable verdicts", "Measured": verdict.unreadable, "Meaning": "counted, never guessed"},
        {"What": "verdicts that changed with the order of the answers", "Measured": verdict.flipped,
         "Meaning": "counted as ties"},
        {"What": "divergence from the parent", "Measured": drift and drift.kl_per_token,
         "Meaning": "KL divergence, nats per token"},
        {"What": "likelihood of chosen answers", "Measured": shift,
         "Meaning": "change in nats per answer; far below zero: answers that people liked became unlikely"},
        {"What": "words per answer", "Measured": f"{verdict.words:.1f}; the parent's {verdict.parent_words:.1f}",
         "Meaning": "longer alone is not better: see the win rate at equal lengths"},
        {"What": "safety", "Measured": "; ".join(map(str, measured.safety_checks)) or "no harmful requests here",
         "Meaning": "a version that declines at least two fewer is not rolled out, even if that is chance"},
    ]  # fmt: skip


def _examples(page: ReportPage, name: str, parent: str, title: str, answers: Sequence[JudgedAnswer]) -> None:
    page.heading(title)
    for each in answers:
        page.side_by_side(each.question, (name, each.answer), (parent, each.parent_answer))
    if not answers:
        page.paragraph("none")


def _both(answers: Sequence[JudgedAnswer]) -> tuple[list[str], list[str]]:
    return [each.answer for each in answers], [each.parent_answer for each in answers]
