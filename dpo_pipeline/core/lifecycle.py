"""A version's life: the statuses it can have, which may follow which, and the sets that others ask for.

    training → trained → improved → registered → rolling_out → champion → retired

A training that gave no better version is retried (`diverged`, `not_improved`, `inconclusive`) or `given_up`; one that
was rolled out may be `rolled_back`. The ledger alone writes a status; every set is derived from the table.
"""

from enum import StrEnum


class Status(StrEnum):
    TRAINING = "training"
    TRAINED = "trained"
    DIVERGED = "diverged"
    IMPROVED = "improved"
    NOT_IMPROVED = "not_improved"
    INCONCLUSIVE = "inconclusive"
    GIVEN_UP = "given_up"
    REGISTERED = "registered"
    ROLLING_OUT = "rolling_out"
    CHAMPION = "champion"
    RETIRED = "retired"
    ROLLED_BACK = "rolled_back"


S = Status
TRANSITIONS: dict[Status, frozenset[Status]] = {
    # Training is begun again after a failure, or where a run was lost.
    S.TRAINING: frozenset({S.TRAINING, S.TRAINED, S.DIVERGED, S.NOT_IMPROVED, S.GIVEN_UP}),
    # The baseline is not evaluated: it is registered, or is the first champion, as it comes from training.
    S.TRAINED: frozenset({S.TRAINING, S.IMPROVED, S.NOT_IMPROVED, S.INCONCLUSIVE, S.REGISTERED, S.CHAMPION}),
    S.DIVERGED: frozenset({S.TRAINING, S.GIVEN_UP}),
    # Evaluated again, a version may come out otherwise until it is registered.
    S.IMPROVED: frozenset({S.TRAINING, S.REGISTERED, S.NOT_IMPROVED, S.INCONCLUSIVE}),
    S.NOT_IMPROVED: frozenset({S.TRAINING, S.IMPROVED, S.INCONCLUSIVE, S.GIVEN_UP}),
    S.INCONCLUSIVE: frozenset({S.TRAINING, S.IMPROVED, S.NOT_IMPROVED, S.GIVEN_UP}),
    # The loop makes no further attempt; a person may.
    S.GIVEN_UP: frozenset({S.TRAINING}),
    S.REGISTERED: frozenset({S.ROLLING_OUT, S.CHAMPION}),
    S.ROLLING_OUT: frozenset({S.CHAMPION, S.RETIRED, S.ROLLED_BACK}),
    S.CHAMPION: frozenset({S.RETIRED, S.ROLLED_BACK}),
    # A rollback or a person in MLflow brings a former champion back.
    S.RETIRED: frozenset({S.CHAMPION}),
    S.ROLLED_BACK: frozenset(),
}
"""What may follow a status."""


def follows(before: Status, after: Status) -> bool:
    """Whether a version may go from one status to the other; staying what it is changes nothing."""
    return before == after or after in TRANSITIONS[before]


def _reachable(begin: Status) -> frozenset[Status]:
    """The status and all that can come after it."""
    found, open_ = {begin}, [begin]
    while open_:
        for after in TRANSITIONS[open_.pop()] - found:
            found.add(after)
            open_.append(after)
    return frozenset(found)


RECORDED = _reachable(S.REGISTERED)
"""Registered once: such a version is only ever rebuilt from what is recorded of it."""
CLOSED = frozenset({S.GIVEN_UP, S.ROLLED_BACK})
"""The loop makes nothing of it any more."""
ACCEPTED = RECORDED - CLOSED
"""Registered and not rolled back since: may serve."""
RETRIED = frozenset(status for status, following in TRANSITIONS.items() if S.GIVEN_UP in following) - {S.TRAINING}
"""Trained without a better version: trained again, or given up."""
UNFINISHED = frozenset({S.TRAINING, S.TRAINED, S.IMPROVED, S.REGISTERED})
"""On the way to a rollout: where a run was lost, another goes on with it."""
