"""Bring MLflow's registry and the ledger together, as `core.registry_plan` decides: differences only, one at a time."""

from contextlib import AbstractContextManager, nullcontext

from filelock import FileLock, Timeout

from dpo_pipeline.core.lifecycle import RECORDED
from dpo_pipeline.core.registry_plan import (
    Action,
    LedgerSnapshot,
    NoteDeleted,
    PromoteManually,
    PublishedVersion,
    RefusePromotion,
    RollBackChallenger,
    SetAlias,
    SetStatus,
    reconcile,
)
from dpo_pipeline.errors import StaleEpoch
from dpo_pipeline.loop.manual_actions import unfit_to_serve
from dpo_pipeline.loop.notify import tell
from dpo_pipeline.settings import Settings
from dpo_pipeline.stores.database import engine_of, only_one
from dpo_pipeline.stores.ledger import DeploymentState, Ledger, VersionRecord
from dpo_pipeline.stores.registry import Registry

ACTOR = "a person in MLflow"
REFUSED_TAG = "promotion_refused"
WAIT_S = 30.0


def registry_differences(settings: Settings, ledger: Ledger, registry: Registry) -> list[Action]:
    """What would be done now; nothing is.

    Raises:
        RegistryError: MLflow does not answer or refuses.
    """
    return _look(settings, ledger, registry)[1]


def reconcile_registry(settings: Settings, ledger: Ledger, registry: Registry, wait_s: float = WAIT_S) -> list[str]:
    """Carry the plan out, and tell people what somebody did in MLflow and what came of it. Nothing is done twice.

    Args:
        wait_s: for another program that is at it; it does what is due, and there is nothing left then.

    Returns:
        What people were told, in sentences; our own updates are not among them.

    Raises:
        RegistryError: MLflow does not answer or refuses.
    """
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    try:
        with (
            FileLock(settings.data_dir / "registry.lock", timeout=wait_s),
            _only_one(settings, wait_s) as is_only_one,
        ):
            done = _reconcile(settings, ledger, registry) if is_only_one else []
    except Timeout:
        return []
    if done:
        tell(settings, f"MLflow's registry: {len(done)} change{'s' if len(done) > 1 else ''}", "\n".join(done))
    return done


def lost_registrations(ledger: Ledger) -> list[VersionRecord]:
    """Registered versions that are not in MLflow any more, oldest first."""
    return [each for each in ledger.versions() if each.status in RECORDED and not each.mlflow_version]


def _only_one(settings: Settings, wait_s: float) -> AbstractContextManager[bool]:
    """Whether no program of another machine is at it, where some share a database."""
    if settings.database_url is None:
        return nullcontext(True)
    return only_one(engine_of(settings.database_url), "reconcile registry", wait_s)


def _reconcile(settings: Settings, ledger: Ledger, registry: Registry) -> list[str]:
    done: list[str] = []
    while True:
        state, plan, seen = _look(settings, ledger, registry)
        moved = [each for each in plan if isinstance(each, NoteDeleted | PromoteManually | RollBackChallenger)]
        try:
            done += [str(action) for action in plan if _apply(action, ledger, registry, state)]
        except StaleEpoch:
            moved = []  # somebody else moved the rollout: by the next look it is decided on what is there then
        if not moved:
            if seen.champion is not None:
                ledger.note_mirrored(seen.wanted())
            return done


def _look(
    settings: Settings, ledger: Ledger, registry: Registry
) -> tuple[DeploymentState, list[Action], LedgerSnapshot]:
    # The ledger first: what is set after this and seen below would look like a person's promotion otherwise. One that
    # rests on an old epoch is refused.
    mirrored, state, versions = ledger.mirrored(), ledger.deployment(), ledger.versions()
    seen = registry.look()
    known = {record.name: record for record in versions}
    serving = known.get(state.champion or "")
    view = LedgerSnapshot(
        state.champion,
        state.challenger,
        state.previous,
        tuple(PublishedVersion(each.name, each.mlflow_version, each.adapter_sha, each.status) for each in versions),
        mirrored,
    )
    orders = settings.mlflow_url is None or settings.access.mlflow_orders == "any"
    return state, reconcile(view, seen, lambda name: unfit_to_serve(settings, known[name], serving), orders), view


def _apply(action: Action, ledger: Ledger, registry: Registry, state: DeploymentState) -> bool:
    """Do it; whether it is news to people.

    Raises:
        StaleEpoch: the rollout was moved meanwhile.
    """
    match action:
        case NoteDeleted(name):
            ledger.note_mlflow_version(name, None)
        case PromoteManually(name):
            ledger.promote_manually(name, state.epoch, (f"champion was moved to {name} in MLflow",), ACTOR)
        case RollBackChallenger():
            reasons = ("challenger was moved to the champion's version in MLflow",)
            ledger.roll_back(state.epoch, reasons, {}, ACTOR)
        case RefusePromotion(name, number, reason):
            registry.tag(number, REFUSED_TAG, reason)
            if name:
                ledger.record_refusal(name, reason, ACTOR)
        case SetAlias(alias, number, _, moved):
            registry.point(alias, number)
            return moved
        case SetStatus(number, status):
            registry.tag(number, "status", status)
            return False
    return True
