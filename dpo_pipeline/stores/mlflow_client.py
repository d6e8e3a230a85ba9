"""How MLflow is reached: by its own client or over REST, with which account, and what a failure means."""

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from dpo_pipeline.core.redaction import cut
from dpo_pipeline.errors import RegistryError, RegistryRefused, RegistryUnavailable
from dpo_pipeline.quick_imports import quick_imports
from dpo_pipeline.settings.shown import without_passwords

GONE = "RESOURCE_DOES_NOT_EXIST"
PASSING = (404, 408, 409, 425, 429)
"""Refusals of now, not of what was asked."""
HEALTH_TIMEOUT_S, REST_TIMEOUT_S = 10, 5
MOST_BYTES = 32 << 20
"""Of one answer. A thousand versions with their tags have less than two."""


class RestError(Exception):
    """An answer of MLflow that is none of what was asked."""

    def __init__(self, status: int, code: str | None, message: str):
        super().__init__(f"{status} {message}")
        self.status, self.code = status, code


class MlflowServer:
    """One tracking server, asked by MLflow's own client, or over REST, for which nothing of MLflow is loaded."""

    def __init__(self, url: str):
        self.url = url
        self._rest = f"{url.rstrip('/')}/api/2.0/mlflow"
        self._session: Any = None

    @contextmanager
    def client(self) -> Iterator[Any]:
        """MLflow's client. Callers import what else they need of MLflow within: loading it belongs here."""
        with quick_imports():
            import requests
            from mlflow import MlflowClient
            from mlflow.exceptions import MlflowException

        try:
            # MLflow's client tries again for minutes before it says that nobody is there.
            health = f"{self.url}/health"
            with requests.get(health, timeout=HEALTH_TIMEOUT_S, auth=account(), stream=True) as answer:
                answer.raise_for_status()
            yield MlflowClient(self.url)
        except (requests.RequestException, MlflowException) as error:
            raise failure_of(self.url, error) from None  # what it says may hold our account, and would be logged

    @contextmanager
    def rest(self) -> Iterator[Any]:
        """The one connection that is kept: opening one for every look costs more than the look."""
        import requests  # not at the top: runs that never look should not load it

        if self._session is None:
            self._session = requests.Session()
            self._session.auth = account()
        try:
            yield self._session
        except (requests.RequestException, RestError, KeyError, TypeError, AttributeError, ValueError) as error:
            raise failure_of(self.url, error) from None  # what it says may hold our account, and would be logged

    def read(self, session: Any, path: str, query: Mapping[str, str]) -> dict[str, Any] | None:
        """What is asked for, or null where MLflow has no such thing."""
        with session.get(f"{self._rest}/{path}", params=query, timeout=REST_TIMEOUT_S, stream=True) as response:
            body = b""
            for chunk in response.iter_content(1 << 16):
                body += chunk
                if len(body) > MOST_BYTES:
                    raise ValueError(f"an answer of more than {MOST_BYTES >> 20} MiB")
            if response.ok:
                found: dict[str, Any] = json.loads(body)
                return found
            told = json.loads(body) if body.startswith(b"{") else {}
            if response.status_code == 404 and told.get("error_code") == GONE:
                return None
            # 404 without that is a proxy whose MLflow is away.
            raise RestError(response.status_code, told.get("error_code"), str(told.get("message") or response.reason))

    def tell(self, send: Callable[..., Any], path: str, body: Mapping[str, str]) -> None:
        """What it answers beside the status is nobody's to read, however much it is."""
        with send(f"{self._rest}/{path}", json=body, timeout=REST_TIMEOUT_S, stream=True) as response:
            response.raise_for_status()


def account() -> Callable[[Any], Any] | None:
    """The account that MLflow's own client takes from the same variables."""
    name, password = os.environ.get("MLFLOW_TRACKING_USERNAME"), os.environ.get("MLFLOW_TRACKING_PASSWORD")
    token = os.environ.get("MLFLOW_TRACKING_TOKEN")
    if name and password:
        from requests.auth import HTTPBasicAuth

        return HTTPBasicAuth(name, password)
    if not token:
        return None

    def authorize(request: Any) -> Any:
        request.headers["Authorization"] = f"Bearer {token}"
        return request

    return authorize


def failure_of(url: str, error: Exception) -> RegistryError:
    """An outage passes by itself; a refusal needs somebody, and says for what."""
    status, code = _answered(error)
    url, said = str(without_passwords(url)), _said(error)
    if status in (401, 403):
        return RegistryRefused(
            f"MLflow at {url} does not let us do this: {said}. Set MLFLOW_TRACKING_USERNAME and "
            "MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN, of an account that may write there."
        )
    if code == GONE:
        return RegistryRefused(
            f"MLflow at {url} has it no more: {said}. Restore what was deleted there; a registered model or version "
            "is registered again by the job `register_version`."
        )
    if status is not None and 400 <= status < 500 and status not in PASSING and code:
        return RegistryRefused(
            f"MLflow at {url} refused: {said}. Asking again does not help; change what it names (DPO_REGISTERED_MODEL "
            "is the model's name)."
        )
    return RegistryUnavailable(
        f"MLflow at {url} did not answer: {said}. Start it (`make up`) or set DPO_MLFLOW_URL; the ledger holds the "
        "truth, and the next run brings MLflow up to date."
    )


def _said(error: Exception) -> str:
    """The beginning of an error, without the account that MLflow, or a proxy before it, may repeat in it."""
    text = str(without_passwords(str(error)))
    for secret in (os.environ.get("MLFLOW_TRACKING_PASSWORD"), os.environ.get("MLFLOW_TRACKING_TOKEN")):
        text = text.replace(secret, "[key]") if secret else text
    return cut(text)


def _answered(error: Exception) -> tuple[int | None, str | None]:
    """(HTTP status, MLflow's own code), as far as it answered at all; a proxy in front of it has no code."""
    if isinstance(error, RestError):
        return error.status, error.code
    response = getattr(error, "response", None)
    if response is not None:
        try:
            return response.status_code, response.json().get("error_code")
        except (ValueError, AttributeError):
            return response.status_code, None
    code = getattr(error, "error_code", None)
    return (error.get_http_status_code(), code) if code else (None, None)  # type: ignore[attr-defined]
