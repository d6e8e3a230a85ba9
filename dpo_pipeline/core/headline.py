"""What an evaluation comes to, in one sentence, and the warning that takes away from it."""

from dataclasses import dataclass

from dpo_pipeline.in_words import spoken


@dataclass(frozen=True)
class Headline:
    """`warning`: what a reader of the sentence alone would miss; empty where that is nothing."""

    sentence: str
    warning: str = ""


def verdict_headline(
    verdict: str, parent: str | None, rate: float | None, controlled: float | None, error: float | None
) -> Headline:
    """
    Args:
        verdict: improved, not_improved or inconclusive.
        rate: win rate over the parent; null: there is none.
        controlled: the same at equal lengths; null: lengths hardly vary. `error` is its standard error.
    """
    words = spoken(verdict).capitalize()
    won = "" if rate is None else f": wins {rate:.1%} against {parent}"
    if verdict != "improved" or controlled is None:
        return Headline(f"{words}{won}.")
    at_equal = f"at equal lengths {controlled:.1%}"
    if controlled <= 0.5:
        return Headline(
            f"Improved, by length only{won}, {at_equal}.",
            f"It wins because its answers are longer: of answers of the same length, those of {parent} are judged at "
            "least as good.",
        )
    if error is not None and controlled - 2 * error <= 0.5:
        return Headline(
            f"Improved{won}; {at_equal}, so that length alone may explain it.",
            "The win rate at equal lengths is not clearly above 50 %: the gain may be longer answers and nothing else.",
        )
    return Headline(f"Improved{won}, {at_equal}.")
