"""Which programs of the loop answer, and what keeps Dagster from loading the definitions."""

from functools import cache

import httpx

from dpo_pipeline.settings import Settings

UNREACHABLE = "DagsterUserCodeUnreachableError"


def answering(settings: Settings) -> dict[str, bool]:
    """Which programs answer now; serving counts as soon as it listens, ready or not."""
    addresses = {
        "MLflow": f"{settings.mlflow_address}/health",
        "Dagster": f"{settings.dagster_address}/server_info",
        "serving": f"{settings.serving_address}/healthz",
    }
    return {name: _answers(address) for name, address in addresses.items()}


@cache
def client() -> httpx.Client:
    """One for all looks: each new one reads the certificates of the system, 25 ms of a core. It keeps no connection."""
    return httpx.Client(timeout=2, limits=httpx.Limits(max_keepalive_connections=0))


def code_location_error(settings: Settings) -> str | None:
    """Why Dagster cannot load the definitions; null while it can, loads them, or does not answer yet.

    Nor is it trouble that the code server is not up yet, or starts again: Dagster reconnects to it by itself.
    """
    query = (
        "{ workspaceOrError { ... on Workspace { locationEntries "
        "{ locationOrLoadError { ... on PythonError { message } } } } } }"
    )
    try:
        answer = httpx.post(f"{settings.dagster_address}/graphql", json={"query": query}, timeout=5).json()
    except (httpx.HTTPError, ValueError):
        return None
    entries = answer.get("data", {}).get("workspaceOrError", {}).get("locationEntries", [])
    messages = [(entry.get("locationOrLoadError") or {}).get("message") for entry in entries]
    return next((message for message in messages if message and UNREACHABLE not in message), None)


def _answers(address: str) -> bool:
    try:
        return client().get(address).status_code == 200
    except httpx.HTTPError:
        return False
