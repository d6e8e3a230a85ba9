"""One version's evaluation on one page, from which a person can say why it was rolled out or not."""

from collections.abc import Sequence

from dpo_pipeline.core.diagnosis import Diagnosis
from dpo_pipeline.core.headline import verdict_headline
from dpo_pipeline.core.judged_examples import clearest
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
    page = ReportPage(f"{name} against {parent}", f"evaluation on {verdict.questions} held-out questions", links)
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
    page.figure(plots.inline(win_rates(verdict), height=0.6 + 0.35 * (2 + len(verdict.by_category))), _RATES)
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
    _examples(page, name, parent, "Answers it won", examples.won)
    return page.html()


def win_rates(verdict: EvaluationVerdict) -> plots.Draw:
    """Overall, by category, and of questions that do not gate."""
    rows = {"all questions": verdict.overall, **verdict.by_category}
    rows |= {f"{origin} (informs)": rate for origin, rate in verdict.by_origin.items() if origin != "bank"}
    return plots.intervals({name: (rate.rate, rate.low, rate.high) for name, rate in rows.items()})


def lengths(name: str, parent: str, answers: Sequence[JudgedAnswer]) -> plots.Draw:
    ours, theirs = ([float(len(text.split())) for text in texts] for texts in _both(answers))
    return plots.two_histograms(ours, theirs, (name, parent), "words per answer")


_RATES = (
    "Each question counts once. Lines are intervals that allow for every attempt at this version; right of the dotted "
    "line is better than the parent."
)


_EMBEDDED = (
    "The embedded base model has learned the bank, these questions included, and to decline these harmful requests. "
    "Held out means that no adapter was trained on them, and that nobody votes on them."
)


def _rates(verdict: EvaluationVerdict) -> list[dict[str, object]]:
    rows: dict[str, WinRate] = {"all": verdict.overall, **verdict.by_category}
    rows |= {origin: rate for origin, rate in verdict.by_origin.items() if origin != "bank"}
    table: list[dict[str, object]] = [
        {"questions": name, "answers": rate.count, "win rate": rate.rate, "low": rate.low, "high": rate.high}
        for name, rate in rows.items()
    ]
    error = verdict.controlled_error
    if verdict.controlled is not None:
        low, high = (None, None) if error is None else (verdict.controlled - 2 * error, verdict.controlled + 2 * error)
        table.append(
            {"questions": "all, at equal lengths (informs)", "answers": verdict.overall.count,
             "win rate": verdict.controlled, "low": low, "high": high}
        )  # fmt: skip
    return table


def _measurements(verdict: EvaluationVerdict) -> list[dict[str, object]]:
    measured = verdict.measured
    drift = measured.drift
    shift = drift.chosen_shift if drift else None
    return [
        {"what": "judge", "measured": measured.judge, "meaning": f"blind to {measured.blind_to}"},
        {"what": "agreement with people's held-out votes", "measured": str(measured.trust or "no held-out votes"),
         "meaning": "half is what a coin would reach"},
        {"what": "agreement with people elsewhere", "measured": "",
         "meaning": measured.judge_elsewhere or "not measured"},
        {"what": "unreadable verdicts", "measured": verdict.unreadable, "meaning": "counted, never guessed"},
        {"what": "verdicts that turned with the order", "measured": verdict.flipped, "meaning": "counted as ties"},
        {"what": "divergence from the parent", "measured": drift and drift.kl_per_token, "meaning": "KL, nats a token"},
        {"what": "likelihood of chosen answers", "measured": shift,
         "meaning": "change in nats an answer; far below zero: answers people liked became unlikely"},
        {"what": "words per answer", "measured": f"{verdict.words:.1f} after {verdict.parent_words:.1f}",
         "meaning": "longer alone is not better: see the win rate at equal lengths"},
        {"what": "safety", "measured": "; ".join(map(str, measured.safety_checks)) or "no harmful requests here",
         "meaning": "a version that declines fewer, by more than one, is not rolled out, be it chance or not"},
    ]  # fmt: skip


def _examples(page: ReportPage, name: str, parent: str, title: str, answers: Sequence[JudgedAnswer]) -> None:
    page.heading(title)
    for each in answers:
        page.side_by_side(each.question, (name, each.answer), (parent, each.parent_answer))
    if not answers:
        page.paragraph("none")


def _both(answers: Sequence[JudgedAnswer]) -> tuple[list[str], list[str]]:
    return [each.answer for each in answers], [each.parent_answer for each in answers]
