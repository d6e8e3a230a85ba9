"""A call to a server that is not ours, whose answer is read with bounds: in bytes, unpacked, and in time."""

import time
from collections.abc import Mapping
from typing import Any

import httpx

from dpo_pipeline.core.redaction import cut
from dpo_pipeline.request_errors import UpstreamFailed

MOST_BYTES = 4 << 20
AS_IT_IS = {"Accept-Encoding": "identity"}
"""Asks for an answer that is not packed: unpacked, a few bytes may be any number."""


def packed_as(headers: Mapping[str, str]) -> str:
    """How an answer is packed all the same, as an error may repeat it; empty where it is not."""
    packed = headers.get("content-encoding", "identity").strip().lower()
    return "" if packed in ("", "identity") else cut(packed)


def call(client: httpx.Client, method: str, url: str, within_s: float, json: Any = None) -> httpx.Response:
    """What it answers, whatever the status; its body is read.

    Args:
        within_s: until the last piece has come; httpx's own timeout is for each, of which there may be any number.

    Raises:
        httpx.HTTPError: it cannot be reached, or broke off.
        UpstreamFailed: it packed its answer, or sent more than `MOST_BYTES`, or for longer than `within_s`.
    """
    until = time.monotonic() + within_s
    with client.stream(method, url, json=json, headers=AS_IT_IS, timeout=within_s) as answer:
        if packed := packed_as(answer.headers):
            raise UpstreamFailed(f"it packed its answer ({packed}), which it was asked not to do.")
        body = bytearray()
        for piece in answer.iter_raw():
            body += piece
            if len(body) > MOST_BYTES:
                raise UpstreamFailed(f"it sent more than {MOST_BYTES >> 20} MiB for one answer.")
            if time.monotonic() > until:
                raise UpstreamFailed(f"it was still sending its answer after {within_s:g} s.")
    return httpx.Response(answer.status_code, headers=answer.headers, content=bytes(body), request=answer.request)
