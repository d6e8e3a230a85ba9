"""Who is served by which version: the ledger, followed every second, and the engine kept in step with it."""

import logging
import threading
from collections.abc import Set
from dataclasses import dataclass

from dpo_pipeline.core.exposure import Unit, gets_challenger, unit_key
from dpo_pipeline.core.lifecycle import ACCEPTED
from dpo_pipeline.core.rollout import traffic_of
from dpo_pipeline.errors import DpoError
from dpo_pipeline.in_words import fault
from dpo_pipeline.loop.recorded_adapter import adapter_folder
from dpo_pipeline.loop.roll_out import plan_of
from dpo_pipeline.serving.engines.engine import Adapter, Engine
from dpo_pipeline.serving.ledger_follower import LedgerFollower
from dpo_pipeline.settings import Settings
from dpo_pipeline.stores.ledger import DeploymentState, Ledger, VersionRecord

FOLLOW_S = 1.0
NEWEST = 6
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Route:
    """The deployment as serving follows it now."""

    epoch: int = 0
    champion: str | None = None
    challenger: str | None = None
    stage: str | None = None
    traffic: float = 0.0
    unit: Unit = "person"
    shadow_share: float = 0.0

    def version_for(self, person: str, conversation: str, request_id: str) -> str | None:
        """The version this request is served; the same one for its unit through the whole rollout."""
        key = unit_key(self.unit, person, conversation, request_id)
        if self.challenger and gets_challenger(key, self.challenger, self.traffic):
            return self.challenger
        return self.champion

    def share_of(self, version: str) -> float:
        """Share of the traffic that a version gets."""
        if version == self.challenger:
            return self.traffic
        return 1.0 - self.traffic if version == self.champion else 0.0


class Router:
    """Follows the ledger in a thread. A version that must not be served leaves the route as it was."""

    def __init__(self, settings: Settings, engine: Engine):
        self._settings = settings
        self._engine = engine
        self._routing = threading.Lock()
        self.route = Route()
        self.champion_to_load: str | None = None
        self.trouble: str | None = None
        self._follower = LedgerFollower("router", settings, self._look, failed=self._cannot_open)

    def start(self) -> None:
        self._follower.start()

    def close(self) -> None:
        self._follower.close()

    def _look(self, ledger: Ledger) -> float:
        try:
            self.follow_once(ledger)
        except Exception as error:
            self._tell(f"the route stays as it was: {fault(error)}")
        return FOLLOW_S

    def _cannot_open(self, error: Exception) -> None:
        self._tell(f"The ledger cannot be opened, and the route stays as it was: {error}")

    def follow_once(self, ledger: Ledger) -> None:
        """Bring engine and route up to the ledger: first load, then route, so nobody is sent to a missing model.

        Raises:
            ArtifactError, AdapterRefused: the champion cannot be served; what was served before stays.
        """
        state, adapters = self.reroute(ledger)
        if state.champion is None:
            return
        unfit = self._serve(adapters, state.champion)
        self._set_route(state, None if state.challenger in unfit else state.challenger)
        self._tell("; ".join(f"{name} is not served: {why}" for name, why in unfit.items()) or None)

    def reroute(self, ledger: Ledger) -> tuple[DeploymentState, dict[str, Adapter]]:
        """Follow the ledger at once where all that it routes to is served already, as in a rollback.

        Never waits for the engine, which may hang: taking a version back must not hang with it.

        Returns:
            The deployment, and what should be served, by version.
        """
        state = ledger.deployment()
        self.champion_to_load = state.champion
        adapters, served = self._adapters(state, ledger), self._engine.models
        wanted = [name for name in (state.champion, state.challenger) if name]
        if wanted and all(name in adapters and served.get(name) == adapters[name].sha for name in wanted):
            self._set_route(state, state.challenger)
        return state, adapters

    def _set_route(self, state: DeploymentState, challenger: str | None) -> None:
        """Never back to an older epoch: two threads may follow, of which one waited for the engine."""
        with self._routing:
            if state.epoch >= self.route.epoch:
                plan = plan_of(state, self._settings.rollout)
                traffic = traffic_of(state.stage, plan.policy) if challenger and state.stage else 0.0
                self.route = Route(
                    state.epoch, state.champion, challenger, state.stage, traffic, plan.unit, plan.shadow_share
                )

    def _serve(self, adapters: dict[str, Adapter], champion: str) -> dict[str, str]:
        """Serve these versions; those other than the champion that must not be served are left out, with the reason.

        What is served already goes on: an unfit version is tried again at every look, and costs the others nothing.
        """
        unfit: dict[str, str] = {}
        if {name: adapter.sha for name, adapter in adapters.items()} == self._engine.models:
            return unfit
        try:
            self._engine.serve(adapters)
        except DpoError:
            served = self._engine.models
            fit = {name: adapter for name, adapter in adapters.items() if served.get(name) == adapter.sha}
            fit[champion] = adapters[champion]
            self._engine.serve(fit)
            for name in sorted(adapters.keys() - fit.keys()):
                try:
                    self._engine.serve({**fit, name: adapters[name]})
                    fit[name] = adapters[name]
                except DpoError as error:
                    unfit[name] = str(error)
        log.info("serving %s", ", ".join(self._engine.models))
        return unfit

    def _adapters(self, state: DeploymentState, ledger: Ledger) -> dict[str, Adapter]:
        """What should be served, by version. What the route still names is, until a look finds that it does no more."""
        routed = {self.route.champion, self.route.challenger}
        return {
            name: Adapter(str(record.adapter_sha), adapter_folder(self._settings, record))
            for name, record in served_versions(state, ledger.versions(), routed).items()
        }

    def _tell(self, trouble: str | None) -> None:
        if trouble and trouble != self.trouble:
            log.error("%s", trouble)
        self.trouble = trouble


def served_versions(
    state: DeploymentState, versions: list[VersionRecord], routed: Set[str | None]
) -> dict[str, VersionRecord]:
    """The newest accepted versions, and always champion, challenger and the previous one, ready for a rollback.

    Args:
        routed: versions that people are still sent to.
    """
    needed = {state.champion, state.challenger, state.previous, *routed}
    newest = [record.name for record in versions if record.status in ACCEPTED][-NEWEST:]
    return {r.name: r for r in versions if r.adapter_sha and (r.name in needed or r.name in newest)}
