"""Is the candidate better than its parent: judged answers → improved, not improved or inconclusive, with reasons.

The unit is a question: several answers to one are its mean, because they share what makes it easy or hard. Only
held-out questions of the bank gate; questions from production and edge cases are reported beside them.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Literal

from dpo_pipeline.core.controlled_winrate import length_controlled_win_rate
from dpo_pipeline.core.judging import JudgeAgreement
from dpo_pipeline.core.questions import Origin
from dpo_pipeline.core.safety import SafetyCheck
from dpo_pipeline.core.winrate import SHARES, Outcome, WinRate, mean_interval
from dpo_pipeline.settings import Evaluation

Verdict = Literal["improved", "not_improved", "inconclusive"]


@dataclass(frozen=True)
class JudgedAnswer:
    """One comparison on a held-out question, as the candidate's outcome; null where the judge could not be read."""

    question: str
    category: str
    outcome: Outcome | None
    answer: str
    parent_answer: str
    score: float | None = None
    parent_score: float | None = None
    origin: Origin = "bank"
    flipped: bool = False


@dataclass(frozen=True)
class Drift:
    """How far the candidate moved, in nats.

    `kl_per_token`: mean of log p(candidate) − log p(parent) over the tokens of the candidate's own answers, an
    estimate of KL(candidate ‖ parent) per token. `chosen_shift`: change of the mean log-probability of a whole chosen
    answer of the held-out pairs; null without pairs.
    """

    kl_per_token: float
    chosen_shift: float | None = None


@dataclass(frozen=True)
class Measured:
    """What an evaluation measured beside the judged answers; null: not measured.

    `judge_elsewhere` is how far the judge agreed with people on other data. `safety` is against the parent,
    `safety_since` against v1.0 where that is another version: small losses may not add up.
    """

    judge: str = "automatic"
    blind_to: str = ""
    judge_elsewhere: str = ""
    safety: SafetyCheck | None = None
    safety_since: SafetyCheck | None = None
    drift: Drift | None = None
    trust: JudgeAgreement | None = None

    @property
    def safety_checks(self) -> tuple[SafetyCheck, ...]:
        return tuple(check for check in (self.safety, self.safety_since) if check)


@dataclass(frozen=True)
class EvaluationVerdict:
    """`overall` is over questions of the bank; `controlled` is its rate at equal lengths, null where they hardly vary.

    `length_ratio` is the candidate's mean words over the parent's; `by_origin` holds the questions that do not gate.
    """

    verdict: Verdict
    reasons: tuple[str, ...]
    overall: WinRate
    by_category: dict[str, WinRate]
    by_origin: dict[str, WinRate]
    controlled: float | None
    controlled_error: float | None
    warnings: tuple[str, ...]
    words: float
    parent_words: float
    length_ratio: float
    questions: int
    unreadable: int
    flipped: int
    measured: Measured = Measured()

    @property
    def improved(self) -> bool:
        return self.verdict == "improved"


def evaluate(
    answers: Sequence[JudgedAnswer], settings: Evaluation, measured: Measured | None = None, attempts: int = 3
) -> EvaluationVerdict:
    """Improved when the win rate reaches `min_win_rate`, its interval lies above one half with and without the question
    that speaks most for it, and no more harmful requests are followed than before.

    Not improved when the interval lies below `min_win_rate`, or there is evidence that safety got worse; else
    inconclusive.

    Args:
        attempts: how often a version may be evaluated; `alpha` is shared out among them.

    Raises:
        ValueError: no judged answer to a question of the bank; nothing can be said of nothing.
    """
    measured = measured or Measured()
    bank = [answer for answer in answers if answer.origin == "bank" and answer.outcome]
    if not bank:
        raise ValueError("No judged answers were given; at least one held-out question is required.")
    alpha = settings.alpha / attempts
    overall = _over_questions(bank, alpha)
    controlled, error, warnings = _controlled(bank)
    words, parent_words = (fmean(len(text.split()) for text in texts) for texts in _texts(answers))
    verdict, reasons = _decide(bank, overall, settings, alpha, measured)
    reasons.append(f"answers have {words:.1f} words, the parent's {parent_words:.1f}")
    if controlled is not None:
        reasons.append(f"at equal lengths the win rate would be {controlled:.1%}")
    return EvaluationVerdict(
        verdict=verdict,
        reasons=tuple(reasons),
        overall=overall,
        by_category=_grouped(bank, "category", alpha),
        by_origin=_grouped([each for each in answers if each.outcome], "origin", alpha),
        controlled=controlled,
        controlled_error=error,
        warnings=warnings,
        words=words,
        parent_words=parent_words,
        length_ratio=words / parent_words if parent_words else float(words > 0),
        questions=len({answer.question for answer in bank}),
        unreadable=sum(answer.outcome is None for answer in answers),
        flipped=sum(answer.flipped for answer in answers),
        measured=measured,
    )


def _decide(
    bank: Sequence[JudgedAnswer], overall: WinRate, settings: Evaluation, alpha: float, measured: Measured
) -> tuple[Verdict, list[str]]:
    assert overall.rate is not None
    reasons = [f"win rate {overall}"]
    for check in measured.safety_checks:
        if check.worse(alpha):
            return "not_improved", [*reasons, f"it {check}: no version may become less safe"]
        if check.fewer:
            return "inconclusive", [*reasons, f"it {check}: that may be chance, and is held"]
    if overall.high < settings.min_win_rate:
        return "not_improved", [*reasons, f"below the {settings.min_win_rate:.0%} that counts as improved"]
    if overall.low <= 0.5:
        return "inconclusive", [*reasons, "the interval includes one half: it may be chance"]
    if overall.rate < settings.min_win_rate:
        return "inconclusive", [*reasons, f"below the {settings.min_win_rate:.0%} that counts as improved"]
    best = _strongest(bank)
    without = _over_questions([answer for answer in bank if answer.question != best], alpha)
    if without.low <= 0.5:
        return "inconclusive", [*reasons, f"without the one question {best!r} it may be chance"]
    reasons += [f"it {check}" for check in measured.safety_checks]
    return "improved", reasons


def _over_questions(answers: Sequence[JudgedAnswer], alpha: float) -> WinRate:
    """The win rate with questions as the units, each with the mean of its answers; an evaluation is looked at once."""
    outcomes = Counter(answer.outcome for answer in answers)
    shares = list(_shares(answers).values())
    rate = fmean(shares) if shares else None
    low, high = mean_interval(shares, alpha)
    return WinRate(outcomes["win"], outcomes["loss"], outcomes["tie"], rate, low, high, len(shares), unit="questions")


def _strongest(answers: Sequence[JudgedAnswer]) -> str:
    shares = _shares(answers)
    return max(shares, key=lambda question: shares[question])


def _shares(answers: Sequence[JudgedAnswer]) -> dict[str, float]:
    """The candidate's share of the wins by question."""
    by_question = _by_question(answers)
    return {name: fmean(SHARES[each.outcome] for each in group if each.outcome) for name, group in by_question.items()}


def _by_question(answers: Sequence[JudgedAnswer]) -> dict[str, list[JudgedAnswer]]:
    """Those whose verdict could be read."""
    groups: dict[str, list[JudgedAnswer]] = defaultdict(list)
    for answer in answers:
        if answer.outcome:
            groups[answer.question].append(answer)
    return groups


def _controlled(answers: Sequence[JudgedAnswer]) -> tuple[float | None, float | None, tuple[str, ...]]:
    """AlpacaEval's length-controlled rate over questions, its error, and what it warns of."""
    ours, theirs = (
        [fmean(len(getattr(each, side)) for each in group) for group in _by_question(answers).values()]
        for side in ("answer", "parent_answer")
    )
    try:
        found = length_controlled_win_rate(list(_shares(answers).values()), ours, theirs)
    except ValueError:
        return None, None, ("lengths hardly differ, or always by the same: no rate at equal lengths",)
    return found.rate, found.std_error, found.warnings


def _grouped(answers: Sequence[JudgedAnswer], by: str, alpha: float) -> dict[str, WinRate]:
    names = sorted({getattr(answer, by) for answer in answers})
    return {name: _over_questions([each for each in answers if getattr(each, by) == name], alpha) for name in names}


def _texts(answers: Sequence[JudgedAnswer]) -> tuple[list[str], list[str]]:
    return [answer.answer for answer in answers], [answer.parent_answer for answer in answers]
