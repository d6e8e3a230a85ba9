"""A server that calls are forwarded to: what it holds, and with `engine.loads`, kept as the rollout wants it.

A thread looks at it again and again. Adapters are loaded by vLLM's API
(https://docs.vllm.ai/en/stable/features/lora.html#dynamically-serving-lora-adapters) under `version@sha12`: a name that
no other weights ever had, so that no server can answer with others.
"""

import logging
import re
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import PurePosixPath

import httpx

from dpo_pipeline.core.redaction import cut
from dpo_pipeline.errors import ArtifactCorrupt, DpoError
from dpo_pipeline.in_words import fault
from dpo_pipeline.ml.bounded_call import call
from dpo_pipeline.request_errors import UpstreamFailed
from dpo_pipeline.serving.engines.engine import Adapter, ServerState
from dpo_pipeline.settings import EngineSettings
from dpo_pipeline.settings.shown import without_passwords
from dpo_pipeline.stores import artifacts

LOOK_S, GLANCE_S = 0.5, 10.0
"""Between two looks: where adapters are kept there, and where a look can only tell what is missing."""
SAYS_NOTHING = (404, 405, 501)
"""Answers of servers that list no models: what they hold, a request shows."""
AGAIN_S = 5.0
"""After which an adapter that was refused is tried again."""
PATIENCE_S, LOADING_S = 5.0, 120.0
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
        self._client = httpx.Client(base_url=self.url, headers=dict(headers))
        self._secret = headers.get("Authorization", "").removeprefix("Bearer ")
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
        self._client.close()

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
            listed = self._list()
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

    def _list(self) -> frozenset[str] | None:
        """The models that it names; null where it has no such list and nothing is loaded by us.

        Raises:
            httpx.HTTPError, UpstreamFailed: what it listed last stands.
        """
        answer = call(self._client, "GET", "models", PATIENCE_S)
        if answer.status_code in SAYS_NOTHING and not self._settings.loads:
            return None
        try:
            return frozenset(str(each["id"]) for each in answer.raise_for_status().json()["data"])
        except (httpx.HTTPStatusError, KeyError, TypeError, ValueError, RecursionError) as error:
            needs = "engine.loads needs a vLLM server; " if self._settings.loads else ""
            raise UpstreamFailed(
                f"it answered GET models with {answer.status_code} and no list of models: {self._said(answer)} "
                f"{needs}engine.url ends in /v1."
            ) from error

    def _missing(self, wanted: Mapping[str, Adapter]) -> dict[str, str]:
        """Of what should be there, what is not listed and is said to be unknown when one token is asked of it.

        Gateways answer for more than they list, and some begin to load a model then: only a 404 says that it is not
        there. Whoever has answered once is not asked again.
        """
        missing = {}
        for name in [] if self._silent else [name for name in wanted if name not in self._listed | self._answered]:
            try:
                answer = self._post("chat/completions", {**_ONE_TOKEN, "model": name}, PATIENCE_S)
            except httpx.ReadTimeout:
                self._answered |= {name}
                continue
            if answer.status_code == 404:
                missing[name] = (
                    f"that server does not hold it ({self._said(answer)}). Load it there, set engine.names, or let "
                    "engine.loads load it."
                )
            elif answer.status_code == 200:
                self._answered |= {name}
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
            if artifacts.verify(adapter.directory)["sha256"] != adapter.sha:
                raise ArtifactCorrupt(f"{adapter.directory} holds another adapter than the ledger has for {name}.")
            path = str(adapter.directory)
            if self._settings.adapters:
                path = str(PurePosixPath(self._settings.adapters, adapter.directory.name))
            answer = self._post("load_lora_adapter", {"lora_name": name, "lora_path": path}, LOADING_S)
            if answer.status_code != 200 and name not in (self._list() or ()):  # another server of ours was first
                raise UpstreamFailed(f"it was refused with {answer.status_code}: {self._said(answer)}{_hint(answer)}")
        except DpoError as error:
            self._refused[name] = (time.monotonic(), str(error))
            return
        except httpx.HTTPError as error:
            told = f"loading it was not answered within {LOADING_S:.0f} s, or broke off ({fault(error)})"
            self._refused[name] = (time.monotonic(), told)
            return
        self._listed |= {name}
        log.info("%s holds %s", self.shown, name)

    def _unload(self, name: str) -> None:
        self._listed -= {name}
        answer = self._post("unload_lora_adapter", {"lora_name": name}, PATIENCE_S)
        if answer.status_code not in (200, 404):
            raise UpstreamFailed(f"{name} could not be unloaded: {answer.status_code}: {self._said(answer)}")
        log.info("%s holds %s no longer", self.shown, name)

    def _said(self, answer: httpx.Response) -> str:
        return cut(answer.text, self._secret)

    def _post(self, path: str, body: Mapping[str, object], patience_s: float) -> httpx.Response:
        return call(self._client, "POST", path, patience_s, body)

    def _tell(self, trouble: str | None) -> None:
        if trouble and trouble != self._trouble:
            log.error("%s: %s", self.shown, trouble)
        elif self._trouble and not trouble:
            log.info("%s is as it should be again", self.shown)
        self._trouble = trouble


_ONE_TOKEN = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 1}


def _hint(answer: httpx.Response) -> str:
    """What to do about the usual refusals of vLLM."""
    if answer.status_code == 404 and "No adapter found" in answer.text:
        return " That server sees the folder under another path: set engine.adapters."
    if answer.status_code in (404, 405):
        return " Start it with --enable-lora and VLLM_ALLOW_RUNTIME_LORA_UPDATING=True."
    return ""
