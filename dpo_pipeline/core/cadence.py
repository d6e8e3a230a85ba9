"""Is it time to train, and if not, what is it waiting for."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from dpo_pipeline.core.lifecycle import ACCEPTED, CLOSED
from dpo_pipeline.core.versions import BASELINE, VersionRecord
from dpo_pipeline.settings import Cadence, DpoRecipe, Phase
from dpo_pipeline.settings.recipes import Objective


@dataclass(frozen=True)
class TrainingState:
    """What the decision looks at; counts are of valid pairs, of which `from_feedback` are feedback's, and of what
    answers called good or bad are worth in pairs.

    `unused`, `labels`: not yet used by an accepted version. `fresh…`: since the newest training of any kind.
    `unsorted`: a version that was rolled back for harm, whose pairs curation has not set aside yet.
    """

    unused: int
    fresh: int
    accepted_versions: int
    newest_was_given_up: bool
    training_now: bool
    rollout_of: str | None
    hours_since_training: float | None
    from_feedback: int = 0
    labels: int = 0
    fresh_labels: int = 0
    unsorted: str | None = None


@dataclass(frozen=True)
class CadenceDecision:
    """`unused` is counted by what the `objective` of the next version learns from."""

    due: bool
    reason: str
    phase: str
    threshold: int
    unused: int
    from_feedback: int = 0
    objective: Objective = "dpo"


def training_state(
    versions: Sequence[VersionRecord],
    rollout_of: str | None,
    valid_beyond: Callable[[int], int],
    now: datetime,
    worth: Callable[[Sequence[VersionRecord]], tuple[int, int]] = lambda seen_by: (0, 0),
) -> TrainingState:
    """What the decision looks at, of the versions that there are.

    Args:
        rollout_of: the version that is being rolled out.
        valid_beyond: how many pairs are valid behind a place among them.
        worth: of feedback that none of these versions has seen, in valid pairs: that of its pairs and of its labels.
    """
    trained = [record for record in versions if record.name != BASELINE]
    accepted = [record for record in trained if record.status in ACCEPTED]
    newest = trained[-1] if trained else None
    (from_feedback, labels), (fresh_feedback, fresh_labels) = worth(accepted), worth(trained)
    return TrainingState(
        unused=valid_beyond(_seen(accepted)) + from_feedback,
        from_feedback=from_feedback,
        labels=labels,
        fresh=valid_beyond(_seen(trained)) + fresh_feedback,
        fresh_labels=fresh_labels,
        accepted_versions=len(accepted),
        newest_was_given_up=newest is not None and newest.status in CLOSED,
        training_now=newest is not None and newest.status not in (*ACCEPTED, *CLOSED),
        rollout_of=rollout_of,
        hours_since_training=(now - datetime.fromisoformat(newest.created_at)).total_seconds() / 3600
        if newest
        else None,
    )


def _seen(versions: Sequence[VersionRecord]) -> int:
    """Up to which place among the valid pairs any of them has seen them."""
    return max((record.pairs_seen for record in versions), default=0)


def unseen_feedback(
    seen_by: Sequence[VersionRecord], pairs: int, labelled: int, labels_per_pair: int
) -> tuple[int, int]:
    """What feedback is worth in valid pairs, that of its pairs and of its labels, of what none of these versions saw.

    Args:
        pairs: made of corrections and the like, so far.
        labelled: answers called good or bad so far.
    """
    new_pairs = max(pairs - max((record.feedback_pairs or 0 for record in seen_by), default=0), 0)
    new_labels = max(labelled - max((record.labelled or 0 for record in seen_by), default=0), 0)
    return new_pairs, new_labels // labels_per_pair


def objective_of(recipe: DpoRecipe, cadence: Cadence, pairs: int, labels: int, threshold: int) -> Objective:
    """What the next version learns from: the recipe's, or labels too where pairs are few and labels make up the rest.

    Beside as many pairs as are required, many labels made versions worse (decision 0021): a team that is half-way there
    by votes is waited for.

    Args:
        pairs, labels: not used yet; of labels what they are worth in pairs.
    """
    few = pairs < threshold / 2 and pairs + labels >= threshold
    by_labels = few and cadence.labels_may_decide and recipe.trainer == "trl"
    return "kto" if by_labels else recipe.objective


def current_phase(accepted_versions: int, cadence: Cadence) -> tuple[str, Phase]:
    """Name and values of the phase: startup until `growth_after` accepted DPO versions, and so on."""
    if cadence.phase != "auto":
        name = cadence.phase
    elif accepted_versions >= cadence.mature_after:
        name = "mature"
    elif accepted_versions >= cadence.growth_after:
        name = "growth"
    else:
        name = "startup"
    return name, getattr(cadence, name)


def training_due(state: TrainingState, cadence: Cadence, recipe: DpoRecipe) -> CadenceDecision:
    """Due when enough unused valid pairs are in, with labels where they count, and nothing is under way."""
    name, phase = current_phase(state.accepted_versions, cadence)
    objective = objective_of(recipe, cadence, state.unused, state.labels, phase.min_samples)
    labels, fresh_labels = (state.labels, state.fresh_labels) if objective == "kto" else (0, 0)
    unused, fresh, from_feedback = state.unused + labels, state.fresh + fresh_labels, state.from_feedback + labels

    def decide(due: bool, reason: str) -> CadenceDecision:
        return CadenceDecision(due, reason, name, phase.min_samples, unused, from_feedback, objective)

    if state.training_now:
        return decide(False, "a version is being trained")
    if state.rollout_of:
        return decide(False, f"{state.rollout_of} is being rolled out; the next version must beat whoever wins")
    if state.unsorted:
        return decide(
            False, f"{state.unsorted} was rolled back for harm; the pairs that this puts in question come first"
        )
    missing = phase.min_samples - unused
    if missing > 0:
        told = f", {from_feedback} of them from feedback" if from_feedback else ""
        return decide(False, f"collect {missing} more valid preferences ({unused} of {phase.min_samples}{told})")
    if state.newest_was_given_up and fresh < phase.min_samples:
        missing = phase.min_samples - fresh
        return decide(False, f"the newest version was given up; collect {missing} more valid preferences first")
    if state.hours_since_training is not None and state.hours_since_training < cadence.cooldown_h:
        left = cadence.cooldown_h - state.hours_since_training
        return decide(False, f"cooling down for {left:.1f} more hours")
    by_labels = ", most of them from labels, so by the objective kto" if objective != recipe.objective else ""
    return decide(True, f"{unused} unused valid preferences{by_labels}, {phase.min_samples} required in phase {name}")
