"""Why a version is not improving, and the one thing to change next."""

from dataclasses import dataclass

from dpo_pipeline.settings import DpoRecipe


@dataclass(frozen=True)
class Symptoms:
    """What training and evaluation showed of the last attempt.

    `margin`: rewards/margins on the eval split at the end; `chosen_shift`: change of the mean
    log-probability of chosen answers against the reference; `length_ratio`: candidate over parent.
    """

    win_rate: float
    margin: float
    chosen_shift: float
    length_ratio: float
    diverged: bool = False


@dataclass(frozen=True)
class Adjustment:
    """A recipe that differs from the last in one hyperparameter, and why."""

    recipe: DpoRecipe
    changed: str
    reason: str


def adjust(recipe: DpoRecipe, symptoms: Symptoms) -> Adjustment:
    """One change at a time, by the sign that is strongest."""
    if symptoms.diverged:
        return _change(recipe, "learning_rate", recipe.learning_rate / 4, "the loss was no number")
    if symptoms.margin < 0.05:
        return _change(recipe, "learning_rate", recipe.learning_rate * 2, "the policy hardly moved")
    if symptoms.win_rate < 0.5 and symptoms.length_ratio > 1.5 and "sigmoid_norm" not in recipe.loss_type:
        return _change(recipe, "loss_type", ("sigmoid_norm",), "answers grew longer without getting better")
    if symptoms.chosen_shift < -5:
        return _change(recipe, "beta", recipe.beta * 2, "chosen answers became much less likely")
    if symptoms.win_rate < 0.5:
        return _change(recipe, "learning_rate", recipe.learning_rate / 2, "the policy moved in the wrong direction")
    return _change(recipe, "epochs", recipe.epochs + 1, "a gain too small to be sure of")


def _change(recipe: DpoRecipe, name: str, value: object, reason: str) -> Adjustment:
    changed = recipe.model_copy(update={name: value})
    return Adjustment(changed, f"{name} {getattr(recipe, name)} → {value}", reason)
