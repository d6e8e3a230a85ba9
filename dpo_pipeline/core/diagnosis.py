"""Why a version is not improving: the user's five questions answered from data, and the one thing to change next.

Nothing is trained or collected here; the retry sensor applies the change that `diagnose` names.
"""

import math
from dataclasses import dataclass
from typing import Literal

from dpo_pipeline.core.questions import CATEGORIES
from dpo_pipeline.settings import DpoRecipe

CLEAR_SHARE, COVERED_SHARE, ENOUGH_PAIRS = 0.6, 0.05, 100
STILL, MOVED_FAR, FELL_FAR = 0.05, 0.5, -5.0
BETA_RANGE, RATE_RANGE = (0.01, 0.5), (1e-7, 1e-2)
POOR_SFT = 2.5
FEW_FLIPS, MOST_FLIPS = 0.05, 0.45
Remedy = Literal["recipe", "sft_round"]


@dataclass(frozen=True)
class Symptoms:
    """What collection, training and evaluation showed of the last attempt; null: not measured.

    `margin`: rewards/margins on the eval split at the end; `chosen_shift`: change of the mean log-probability of
    chosen answers against the reference, in nats an answer; `length_ratio`: candidate over parent; `kl_per_token`
    in nats; `clear_share`: decided votes among all; `flip_rate`: chance that a vote is the wrong way round;
    `sft_satisfaction`: mean rating of v1.0, 1 to 5; `demonstrations`: corrections and chosen answers that v1.0 was
    not tuned on yet; `labelled`: answers that people called good or bad. `…_high` and `…_low` are ends of intervals:
    what may be chance is no reason to change a recipe.
    """

    win_rate: float
    margin: float
    chosen_shift: float
    length_ratio: float
    diverged: bool = False
    win_rate_high: float = 1.0
    kl_per_token: float | None = None
    controlled_high: float = 1.0
    pairs: int | None = None
    clear_share: float | None = None
    flip_rate: float | None = None
    flip_rate_low: float = 0.0
    categories: dict[str, int] | None = None
    sft_satisfaction: float | None = None
    sft_satisfaction_high: float = 5.0
    demonstrations: int = 0
    labelled: int = 0
    sft_rounds: int = 0


@dataclass(frozen=True)
class DiagnosticAnswer:
    """To one of the five questions. `good` is null where nothing was measured."""

    question: str
    good: bool | None
    finding: str


@dataclass(frozen=True)
class Diagnosis:
    """`change` is what to do next, `recipe` that of the next attempt, `conclusion` both in words."""

    answers: tuple[DiagnosticAnswer, ...]
    change: Remedy
    recipe: DpoRecipe
    changed: str
    reason: str

    @property
    def conclusion(self) -> str:
        return f"{self.reason}: {self.changed}"

    def rows(self) -> list[dict[str, object]]:
        said = {True: "yes", False: "no", None: "not measured"}
        return [
            {"question": each.question, "answer": said[each.good], "finding": each.finding} for each in self.answers
        ]


def diagnose(recipe: DpoRecipe, symptoms: Symptoms) -> Diagnosis:
    """One change at a time, by the sign that is strongest: data before hyperparameters where data are the trouble."""
    answers = five_answers(recipe, symptoms)

    def remedy(reason: str, changed: str, change: Remedy = "recipe", **values: object) -> Diagnosis:
        made = recipe.model_copy(update=values)
        if made.trainer == "llamafactory" and not made.is_known_to_llamafactory:
            made, changed = (
                made.model_copy(update={"trainer": "trl"}),
                f"{changed}, by TRL: LLaMA-Factory has no such loss",
            )
        return Diagnosis(answers, change, made, changed, reason)

    def scaled(name: str, factor: float, reason: str) -> Diagnosis:
        value = getattr(recipe, name) * factor
        return remedy(reason, f"{name} {getattr(recipe, name)} → {value}", **{name: value})

    s = symptoms
    if s.diverged:
        return scaled("learning_rate", 1 / 4, "the loss was NaN")
    flipping = s.flip_rate is not None and s.flip_rate_low > FEW_FLIPS and s.flip_rate < MOST_FLIPS
    of_pairs = recipe.objective == "dpo"  # KTO has one loss
    if of_pairs and flipping and "robust" not in recipe.loss_type:
        # It takes the place of `sigmoid`; a term beside it, such as sft, stays.
        losses = tuple("robust" if name == "sigmoid" else name for name in recipe.loss_type)
        kept = {"loss_type": losses} if "robust" in losses else {"loss_type": ("robust",), "loss_weights": None}
        smoothing = round(s.flip_rate or 0.0, 3)
        changed = f"loss {' + '.join(kept['loss_type'] or ())} for {smoothing:.0%} flipped votes"
        return remedy("people contradict themselves", changed, **kept, label_smoothing=smoothing)
    if s.sft_satisfaction_high < POOR_SFT and s.demonstrations and not s.sft_rounds:
        round_on = f"an SFT round on {s.demonstrations} corrections and chosen answers"
        return remedy("v1.0 is not good enough", round_on, "sft_round", sft_rounds=1)
    if abs(s.margin) < STILL:
        return scaled("learning_rate", 2, "the policy hardly moved")
    grew = s.length_ratio > 1.5 and min(s.win_rate_high, s.controlled_high) < 0.5
    if of_pairs and grew and "sigmoid_norm" not in recipe.loss_type:
        return remedy(
            "answers grew longer without getting better", f"loss {' + '.join(recipe.loss_type)} → sigmoid_norm",
            loss_type=("sigmoid_norm",), loss_weights=None,
        )  # fmt: skip
    if of_pairs and s.chosen_shift < FELL_FAR and "sft" not in recipe.loss_type:
        return remedy(
            "chosen answers became much less likely", "the loss gets a term 0.2 · sft",
            loss_type=(*recipe.loss_type, "sft"), loss_weights=(*_weights(recipe), 0.2),
        )  # fmt: skip
    if s.kl_per_token is not None and s.kl_per_token > MOVED_FAR and s.win_rate_high < 0.5:
        return scaled("beta", 2, "the policy went far from its reference")
    few = s.pairs is not None and s.pairs < ENOUGH_PAIRS
    if of_pairs and few and s.labelled >= ENOUGH_PAIRS:
        labels = f"{s.pairs} pairs are few, and {s.labelled} answers were called good or bad"
        return remedy(labels, "objective dpo → kto", objective="kto", trainer="trl")
    if not of_pairs and s.pairs is not None and not few:
        return remedy(f"{s.pairs} pairs are enough by themselves", "objective kto → dpo", objective="dpo")
    if s.win_rate_high < 0.5:
        return scaled("learning_rate", 1 / 2, "the policy moved in the wrong direction")
    longer = recipe.epochs + 1
    steps = math.ceil(recipe.min_steps * longer / recipe.epochs)
    change = f"epochs {recipe.epochs:g} → {longer:g}"
    return remedy("a gain too small to be sure of", change, epochs=longer, min_steps=steps)


def five_answers(recipe: DpoRecipe, s: Symptoms) -> tuple[DiagnosticAnswer, ...]:
    """The user's five questions, each with its numbers."""
    thin = _thin(s.categories)
    low_beta, high_beta = BETA_RANGE
    low_rate, high_rate = RATE_RANGE
    sensible = low_beta <= recipe.beta <= high_beta and low_rate <= recipe.learning_rate <= high_rate
    flips = "" if s.flip_rate is None else f", {s.flip_rate:.0%} of repeated votes flipped"
    return (
        DiagnosticAnswer(
            "Are the preferences clear?",
            None if s.clear_share is None else s.clear_share >= CLEAR_SHARE and (s.flip_rate or 0.0) < 0.25,
            "no votes counted" if s.clear_share is None else f"{s.clear_share:.0%} of votes name a winner{flips}",
        ),
        DiagnosticAnswer(
            "Is every category covered?",
            None if thin is None else not thin,
            "not counted" if thin is None else f"thin: {', '.join(thin)}" if thin else "5 % or more of each",
        ),
        DiagnosticAnswer(
            f"Are there {ENOUGH_PAIRS} pairs or more?",
            None if s.pairs is None else s.pairs >= ENOUGH_PAIRS,
            "not counted" if s.pairs is None else f"{s.pairs} training pairs",
        ),
        DiagnosticAnswer(
            "Are β and learning rate sensible?",
            sensible and not s.diverged and s.margin >= STILL,
            f"β {recipe.beta:g}, learning rate {recipe.learning_rate:g}; margin on held-out pairs {s.margin:.2f}",
        ),
        DiagnosticAnswer(
            "Is the SFT model good enough?",
            None if s.sft_satisfaction is None else s.sft_satisfaction >= POOR_SFT,
            "v1.0 was not rated" if s.sft_satisfaction is None else f"v1.0 is rated {s.sft_satisfaction:.2f} of 5",
        ),
    )


def what_to_collect(diagnosis: Diagnosis, symptoms: Symptoms) -> str:
    """After the last attempt: what people should vote on before the next version is tried."""
    wanted = []
    if thin := _thin(symptoms.categories):
        wanted.append(f"questions of {', '.join(thin)}")
    if symptoms.pairs is not None and symptoms.pairs < ENOUGH_PAIRS:
        wanted.append(f"{ENOUGH_PAIRS - symptoms.pairs} more valid pairs")
    if symptoms.clear_share is not None and symptoms.clear_share < CLEAR_SHARE:
        wanted.append("comparisons of versions that differ more, since too many votes are ties")
    if symptoms.sft_satisfaction is not None and symptoms.sft_satisfaction < POOR_SFT:
        wanted.append("corrections on the chat page, because v1.0 itself is rated low")
    return "collect " + "; ".join(wanted or ["another threshold's worth of votes on the champion's newest answers"])


def _weights(recipe: DpoRecipe) -> tuple[float, ...]:
    return recipe.loss_weights or (1.0,) * len(recipe.loss_type)


def _thin(counts: dict[str, int] | None) -> list[str] | None:
    """Categories with few of the pairs in the five; null where none of the pairs is in one of them."""
    total = sum((counts or {}).get(name, 0) for name in CATEGORIES)
    return [name for name in CATEGORIES if (counts or {}).get(name, 0) < COVERED_SHARE * total] if total else None
