"""A server that calls are forwarded to: what it holds, and with `engine.loads`, kept as the rollout wants it.

A thread looks at it again and again. Adapters are loaded under `version@sha12`: a name that no other weights ever had,
so that no server can answer with others.
"""

import logging
import re
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import httpx

from dpo_pipeline.errors import DpoError
from dpo_pipeline.in_words import fault
from dpo_pipeline.request_errors import ModelNotHeld
from dpo_pipeline.serving.engines.adapter_api import AdapterApi
from dpo_pipeline.serving.engines.engine import Adapter, ServerState
from dpo_pipeline.settings import EngineSettings
from dpo_pipeline.settings.shown import without_passwords

LOOK_S, GLANCE_S = 0.5, 10.0
"""Between two looks: where adapters are kept there, and where a look can only tell what is missing."""
AGAIN_S = 5.0
"""After which an adapter that was refused is tried again."""
_OURS = re.compile(r"(?<=.)@[0-9a-f]{12}\Z")
log = logging.getLogger(__name__)


def name_there(version: str, sha: str) -> str:
    """What a version's adapter is called on a server that we load it on."""
    return f"{version}@{sha[:12]}"


class ModelServer:
    """One server. `want` says what it should hold; whether it does, `holds` tells for each.

    Args:
        linger_s: how long an adapter stays there that is wanted no longer: other servers of ours may still send
            people to it.
    """

    def __init__(self, url: str, settings: EngineSettings, headers: Mapping[str, str], linger_s: float):
        self.url, self.shown = url.rstrip("/") + "/", str(without_passwords(url))
        self._settings, self._linger_s = settings, linger_s
        self._api = AdapterApi(self.url, settings, headers)
        self.reachable = True
        self._listed: frozenset[str] = frozenset()
        self._silent = False
        self._answered: frozenset[str] = frozenset()
        self._refused: dict[str, tuple[float, str]] = {}
        self._trouble: str | None = None
        self._unwanted_since: dict[str, float] = {}
        self._answering: Counter[str] = Counter()
        self._lost = 0
        self._changed = threading.Condition()
        self._wanted: Mapping[str, Adapter] = {}
        self._orders, self._done, self._woken, self._closed = 0, 0, False, False
        self._thread = threading.Thread(target=self._follow, name=f"model server {self.shown}", daemon=True)

    @property
    def state(self) -> ServerState:
        held = None if self._silent else tuple(sorted(self._listed & self._wanted.keys()))
        return ServerState(self.shown, self.reachable, held, self._trouble, self._lost)

    @property
    def settled(self) -> bool:
        """A look has dealt with the newest order."""
        return self._done >= self._orders

    @property
    def busy(self) -> int:
        """Requests of ours that it is answering."""
        return self._answering.total()

    def holds(self, name: str) -> bool:
        """Whether a request for it can be sent there; a server that does not say is believed to hold everything."""
        return self._silent or name in self._listed

    def why_not(self, name: str) -> str:
        """What keeps it from holding an adapter."""
        _, refused = self._refused.get(name, (0.0, None))
        return f"{self.shown}: {refused or self._trouble or f'{name} is not there yet'}"

    def want(self, wanted: Mapping[str, Adapter]) -> None:
        """It should hold these, by their names there."""
        with self._changed:
            if self._orders and wanted == self._wanted:
                return
            self._wanted = dict(wanted)
            self._orders += 1
            self._changed.notify_all()
            if self._thread.ident is None:
                self._thread.start()

    def lost(self, name: str) -> None:
        """A request found that it is not there: nobody is sent to it before a look has brought it back."""
        with self._changed:
            self._lost += 1
            self._listed -= {name}
            self._woken = True
            self._changed.notify_all()

    @contextmanager
    def answering(self, name: str) -> Iterator[None]:
        """While a request is answered, its adapter stays."""
        self._answering[name] += 1
        try:
            yield
        finally:
            self._answering[name] -= 1

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if self._thread.ident is not None:
            self._thread.join(timeout=1)  # it may be waiting for a server that hangs
        self._api.close()

    def _follow(self) -> None:
        pause = LOOK_S if self._settings.loads else GLANCE_S
        while not self._closed:
            with self._changed:
                order, wanted, self._woken = self._orders, self._wanted, False
            self._tell(self._look(wanted))
            with self._changed:
                self._done = order
                self._changed.wait_for(self._asked_to_look, pause)

    def _asked_to_look(self) -> bool:
        return self._closed or self._woken or self._orders > self._done

    def _look(self, wanted: Mapping[str, Adapter]) -> str | None:
        """What is not as it should be afterwards, or null."""
        try:
            listed = self._api.models()
            self.reachable, self._silent = True, listed is None
            self._listed = (listed or frozenset()) | self._answered
            if self._settings.loads:
                self._keep(wanted)
                missing = {name: why for name, (_, why) in self._refused.items() if name in wanted}
            else:
                missing = self._missing(wanted)
        except httpx.HTTPError as error:
            self.reachable = False
            return f"it cannot be asked ({fault(error)}). Start that server or fix engine.url."
        except DpoError as error:
            return str(error)
        except Exception as error:
            log.exception("%s could not be looked at", self.shown)
            return f"it could not be looked at ({fault(error)})."
        return " ".join(f"{name}: {why}" for name, why in missing.items()) or None

    def _missing(self, wanted: Mapping[str, Adapter]) -> dict[str, str]:
        """Of what should be there, what is not listed and is said to be unknown when it is asked for.

        Whoever has answered once is not asked again.
        """
        missing = {}
        for name in [] if self._silent else [name for name in wanted if name not in self._listed | self._answered]:
            try:
                if self._api.answers_for(name):
                    self._answered |= {name}
            except ModelNotHeld as error:
                missing[name] = str(error)
        self._listed |= wanted.keys() - missing.keys()
        return missing

    def _keep(self, wanted: Mapping[str, Adapter]) -> None:
        """Load what is missing; unload what was ours and is wanted no longer, once nobody is answered by it."""
        now = time.monotonic()
        self._refused = {name: refused for name, refused in self._refused.items() if now - refused[0] < AGAIN_S}
        for name, adapter in wanted.items():
            if name not in self._listed and name not in self._refused:
                self._load(name, adapter)
        unwanted = {name for name in self._listed if _OURS.search(name) and name not in wanted}
        self._unwanted_since = {name: self._unwanted_since.get(name, now) for name in unwanted}
        for name, since in self._unwanted_since.items():
            if now - since >= self._linger_s and not self._answering[name]:
                self._unload(name)

    def _load(self, name: str, adapter: Adapter) -> None:
        try:
            self._api.load(name, adapter)
        except DpoError as error:
            self._refused[name] = (time.monotonic(), str(error))
            return
        self._listed |= {name}
        log.info("%s holds %s", self.shown, name)

    def _unload(self, name: str) -> None:
        self._listed -= {name}
        self._api.unload(name)
        log.info("%s holds %s no longer", self.shown, name)

    def _tell(self, trouble: str | None) -> None:
        if trouble and trouble != self._trouble:
            log.error("%s: %s", self.shown, trouble)
        elif self._trouble and not trouble:
            log.info("%s is as it should be again", self.shown)
        self._trouble = trouble
