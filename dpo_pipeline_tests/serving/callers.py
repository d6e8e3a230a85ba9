"""Whoever calls a server in the tests of who may do what, and what it kept of them."""

from typing import Any

import httpx

from dpo_pipeline.core.votes import Preference, decode_preference
from dpo_pipeline.settings import Settings
from dpo_pipeline.stores.pseudonyms import pseudonym_of, signing_key
from dpo_pipeline_tests.programs_under_test import Server

QUESTION = "Why is the sky blue?"


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def calling_from(address: str, server: Server) -> httpx.Client:
    """Somebody whose connections come from another address of loopback."""
    return httpx.Client(base_url=server.url, transport=httpx.HTTPTransport(local_address=address), timeout=60)


def voted(server: Server, headers: dict[str, str] | None = None, **fields: Any) -> httpx.Response:
    shown = server.client.post("/v1/comparisons", json={"prompt": QUESTION, **fields}, headers=headers)
    if shown.status_code != 201:
        return shown
    body = {"token": shown.json()["token"], "vote": "left"}
    return server.client.post(f"/v1/comparisons/{shown.json()['comparison_id']}/vote", json=body, headers=headers)


def newest(settings: Settings) -> Preference:
    return decode_preference(settings.prefs_log.read_bytes().splitlines()[-1])


def person(settings: Settings, name: str) -> str:
    return pseudonym_of(name, signing_key(settings))
