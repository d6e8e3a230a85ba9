"""What to do where MLflow's registry and the ledger differ: the one place that decides it.

The ledger is the truth, and MLflow shows it; but a person may promote or roll back a version there. Moving `champion`
is a manual promotion, carried out or refused with the reason; moving `challenger` onto the champion's version rolls the
challenger back. Everything else that differs is set back. What a person moved is told from what was not brought up to
date yet by the aliases that this project set last.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

ALIASES = ("champion", "challenger", "previous")


@dataclass(frozen=True)
class PublishedVersion:
    """A version of the ledger; `number` is its version in MLflow, null where it is not there."""

    name: str
    number: str | None
    adapter_sha: str | None
    status: str


@dataclass(frozen=True)
class LedgerSnapshot:
    """Who serves, all versions, and MLflow's number by alias as this project set them last."""

    champion: str | None
    challenger: str | None
    previous: str | None
    versions: tuple[PublishedVersion, ...]
    mirrored: Mapping[str, str]

    def wanted(self) -> dict[str, str]:
        """MLflow's number by alias, as it should be."""
        numbers = {each.name: each.number for each in self.versions if each.number}
        roles = zip(ALIASES, (self.champion, self.challenger, self.previous), strict=True)
        return {alias: numbers[name] for alias, name in roles if name in numbers}


@dataclass(frozen=True)
class RegistrySnapshot:
    """The registry at a moment; `adapters` and `statuses` are tags by number. Empty: there is no model yet."""

    aliases: Mapping[str, str] = field(default_factory=dict)
    adapters: Mapping[str, str] = field(default_factory=dict)
    statuses: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class NoteDeleted:
    """Somebody deleted the version in MLflow: it is made again."""

    name: str
    number: str

    def __str__(self) -> str:
        return f"version {self.number} of MLflow, our {self.name}, was deleted; it is made again"


@dataclass(frozen=True)
class PromoteManually:
    name: str

    def __str__(self) -> str:
        return f"{self.name} is champion by manual promotion in MLflow"


@dataclass(frozen=True)
class RefusePromotion:
    """`name` is null where the ledger has no such version."""

    name: str | None
    number: str
    reason: str

    def __str__(self) -> str:
        return f"the manual promotion of version {self.number} is refused: {self.reason}"


@dataclass(frozen=True)
class RollBackChallenger:
    name: str

    def __str__(self) -> str:
        return f"{self.name} is rolled back in MLflow: challenger was moved to the champion's version"


@dataclass(frozen=True)
class SetAlias:
    """`found` is what it points to; `number` null deletes it. `moved`: somebody moved it since it was set last."""

    alias: str
    number: str | None
    found: str | None
    moved: bool

    def __str__(self) -> str:
        pointed = f"alias {self.alias} pointed to {self.found or 'nothing'}"
        return f"{pointed}; set to {self.number or 'nothing'} as the ledger has it"


@dataclass(frozen=True)
class SetStatus:
    number: str
    status: str


Action = NoteDeleted | PromoteManually | RefusePromotion | RollBackChallenger | SetAlias | SetStatus


def reconcile(
    ledger: LedgerSnapshot, registry: RegistrySnapshot, unfit: Callable[[str], str], orders: bool = True
) -> list[Action]:
    """What to do, in order; empty where both agree.

    A plan that changes the ledger ends there: look at both again and go on by the next one.

    Args:
        unfit: why a version must not serve everybody, by its name; empty where it may.
        orders: whether what a person moves there counts; otherwise it is set back, and an operator may do it here.
    """
    if ledger.champion is None:
        return []
    # By the adapter and not by the number: in a model that was deleted and made again, numbers begin at 1 again.
    deleted: list[Action] = [
        NoteDeleted(each.name, each.number)
        for each in ledger.versions
        if each.number and registry.adapters.get(each.number) != each.adapter_sha
    ]
    if deleted:
        return deleted
    wanted, champion = ledger.wanted(), registry.aliases.get("champion")
    if champion and _moved(ledger, "champion", champion) and champion != wanted.get("champion"):
        ordered = _promotion(ledger, champion, unfit, orders)
        if isinstance(ordered, PromoteManually):
            return [ordered]
        return [ordered, *_differences(ledger, registry)]
    onto_champion = champion and champion == wanted.get("champion") == registry.aliases.get("challenger")
    if orders and ledger.challenger and onto_champion and _moved(ledger, "challenger", champion):
        return [RollBackChallenger(ledger.challenger)]
    return _differences(ledger, registry)


def _promotion(
    ledger: LedgerSnapshot, number: str, unfit: Callable[[str], str], orders: bool
) -> PromoteManually | RefusePromotion:
    name = next((each.name for each in ledger.versions if each.number == number), None)
    reason = unfit(name) if name else "it is none of the versions in the ledger"
    if name and not reason and not orders:
        reason = (
            "nobody asks whoever moves an alias there who they are. An operator confirms it: "
            f"dpo rollout make-champion {name}. Where that MLflow has a login, set access.mlflow_orders to any"
        )
    return RefusePromotion(name, number, reason) if reason or not name else PromoteManually(name)


def _differences(ledger: LedgerSnapshot, registry: RegistrySnapshot) -> list[Action]:
    wanted = ledger.wanted()
    found: list[Action] = [
        SetAlias(alias, wanted.get(alias), present, _moved(ledger, alias, present))
        for alias in ALIASES
        if (present := registry.aliases.get(alias)) != wanted.get(alias)
    ]
    return found + [
        SetStatus(each.number, each.status)
        for each in ledger.versions
        if each.number and registry.statuses.get(each.number) != each.status
    ]


def _moved(ledger: LedgerSnapshot, alias: str, present: str | None) -> bool:
    """Whether somebody moved the alias; before it was first set, nobody did."""
    return alias in ledger.mirrored and present != ledger.mirrored[alias]
