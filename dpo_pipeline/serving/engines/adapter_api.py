"""What a server is asked of its models: which it holds, and by vLLM's API
(https://docs.vllm.ai/en/stable/features/lora.html#dynamically-serving-lora-adapters) to load and unload adapters.
"""

from collections.abc import Mapping
from pathlib import PurePosixPath

import httpx

from dpo_pipeline.core.redaction import cut
from dpo_pipeline.errors import ArtifactCorrupt
from dpo_pipeline.in_words import fault
from dpo_pipeline.ml.bounded_call import call
from dpo_pipeline.request_errors import ModelNotHeld, UpstreamFailed
from dpo_pipeline.serving.engines.engine import Adapter
from dpo_pipeline.settings import EngineSettings
from dpo_pipeline.stores import artifacts

SAYS_NOTHING = (404, 405, 501)
"""Answers of servers that list no models: what they hold, a request shows."""
PATIENCE_S, LOADING_S = 5.0, 120.0
_ONE_TOKEN = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 1}


class AdapterApi:
    def __init__(self, url: str, settings: EngineSettings, headers: Mapping[str, str]):
        self._settings = settings
        self._client = httpx.Client(base_url=url, headers=dict(headers))
        self._secret = headers.get("Authorization", "").removeprefix("Bearer ")

    def close(self) -> None:
        self._client.close()

    def models(self) -> frozenset[str] | None:
        """Those that it names; null where it has no such list and nothing is loaded by us.

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

    def answers_for(self, name: str) -> bool:
        """Whether it answers when one token is asked of this model, or is busy with that; false: that does not tell.

        Gateways answer for more than they list, and some begin to load a model then: only a 404 says that it is not
        there.

        Raises:
            ModelNotHeld: it says that it has no such model.
            httpx.HTTPError: it cannot be asked.
        """
        try:
            answer = self._post("chat/completions", {**_ONE_TOKEN, "model": name}, PATIENCE_S)
        except httpx.ReadTimeout:
            return True
        if answer.status_code == 404:
            raise ModelNotHeld(
                f"that server does not hold it ({self._said(answer)}). Load it there, set engine.names, or let "
                "engine.loads load it."
            )
        return answer.status_code == 200

    def load(self, name: str, adapter: Adapter) -> None:
        """
        Raises:
            ArtifactError: what lies here is not the adapter of the ledger.
            UpstreamFailed: it was refused, or not answered.
        """
        if artifacts.verify(adapter.directory)["sha256"] != adapter.sha:
            raise ArtifactCorrupt(f"{adapter.directory} holds another adapter than the ledger has for {name}.")
        path = str(adapter.directory)
        if self._settings.adapters:
            path = str(PurePosixPath(self._settings.adapters, adapter.directory.name))
        try:
            answer = self._post("load_lora_adapter", {"lora_name": name, "lora_path": path}, LOADING_S)
            if answer.status_code == 200 or name in (self.models() or ()):  # another server of ours was first
                return
        except httpx.HTTPError as error:
            raise UpstreamFailed(
                f"loading it was not answered within {LOADING_S:.0f} s, or broke off ({fault(error)})"
            ) from error
        raise UpstreamFailed(f"it was refused with {answer.status_code}: {self._said(answer)}{_hint(answer)}")

    def unload(self, name: str) -> None:
        """
        Raises:
            UpstreamFailed: it was refused.
            httpx.HTTPError: it cannot be asked.
        """
        answer = self._post("unload_lora_adapter", {"lora_name": name}, PATIENCE_S)
        if answer.status_code not in (200, 404):
            raise UpstreamFailed(f"{name} could not be unloaded: {answer.status_code}: {self._said(answer)}")

    def _post(self, path: str, body: Mapping[str, object], patience_s: float) -> httpx.Response:
        return call(self._client, "POST", path, patience_s, body)

    def _said(self, answer: httpx.Response) -> str:
        return cut(answer.text, self._secret)


def _hint(answer: httpx.Response) -> str:
    """What to do about the usual refusals of vLLM."""
    if answer.status_code == 404 and "No adapter found" in answer.text:
        return " That server sees the folder under another path: set engine.adapters."
    if answer.status_code in (404, 405):
        return " Start it with --enable-lora and VLLM_ALLOW_RUNTIME_LORA_UPDATING=True."
    return ""
