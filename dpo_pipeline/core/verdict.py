"""Is the candidate better than its parent: outcomes on held-out questions → improved or not, with reasons."""

from collections.abc import Sequence
from dataclasses import dataclass

from dpo_pipeline.core.winrate import Outcome, WinRate, win_rate
from dpo_pipeline.settings import Evaluation


@dataclass(frozen=True)
class JudgedAnswer:
    """One comparison on a held-out question, as the candidate's outcome; lengths in words."""

    question: str
    category: str
    outcome: Outcome
    words: int
    parent_words: int
    score: float
    parent_score: float


@dataclass(frozen=True)
class EvaluationVerdict:
    """`length_ratio` is the candidate's mean words over the parent's."""

    improved: bool
    reasons: tuple[str, ...]
    overall: WinRate
    by_category: dict[str, WinRate]
    words: float
    parent_words: float
    length_ratio: float


def evaluate(answers: Sequence[JudgedAnswer], settings: Evaluation) -> EvaluationVerdict:
    """Improved when the win rate reaches `min_win_rate` and its interval lies above one half.

    Raises:
        ValueError: no answers; nothing can be said of nothing.
    """
    if not answers:
        raise ValueError("No judged answers were given; at least one held-out question is required.")
    overall = win_rate([answer.outcome for answer in answers], settings.alpha)
    categories = sorted({answer.category for answer in answers})
    by_category = {
        name: win_rate([answer.outcome for answer in answers if answer.category == name], settings.alpha)
        for name in categories
    }
    words = sum(answer.words for answer in answers) / len(answers)
    parent_words = sum(answer.parent_words for answer in answers) / len(answers)
    assert overall.rate is not None
    reasons = [f"win rate {overall}"]
    if overall.rate < settings.min_win_rate:
        reasons.append(f"below the {settings.min_win_rate:.0%} that counts as improved")
    if overall.low <= 0.5:
        reasons.append("the interval includes one half: it may be chance")
    improved = len(reasons) == 1
    ratio = words / parent_words if parent_words else float(words > 0)
    reasons.append(f"answers have {words:.1f} words, the parent's {parent_words:.1f}")
    return EvaluationVerdict(improved, tuple(reasons), overall, by_category, words, parent_words, ratio)
