"""A call to a server that is not ours, whose answer is read with bounds: in bytes, unpacked, and in time."""

import time
from typing import Any

import httpx

from dpo_pipeline.core.redaction import cut
from dpo_pipeline.errors import UpstreamFailed

MOST_BYTES = 4 << 20


def call(client: httpx.Client, method: str, url: str, within_s: float, json: Any = None) -> httpx.Response:
    """What it answers, whatever the status; its body is read.

    Args:
        within_s: until the last piece has come; httpx's own timeout is for each, of which there may be any number.

    Raises:
        httpx.HTTPError: it cannot be reached, or broke off.
        UpstreamFailed: it packed its answer, or sent more than `MOST_BYTES`, or for longer than `within_s`.
    """
    until = time.monotonic() + within_s
    # Asked for as it is: unpacked, a few bytes may be any number.
    asked = client.stream(method, url, json=json, headers={"Accept-Encoding": "identity"}, timeout=within_s)
    with asked as answer:
        packed = answer.headers.get("content-encoding", "identity").strip().lower()
        if packed not in ("", "identity"):
            raise UpstreamFailed(f"it packed its answer ({cut(packed)}), which it was asked not to do.")
        body = bytearray()
        for piece in answer.iter_raw():
            body += piece
            if len(body) > MOST_BYTES:
                raise UpstreamFailed(f"it sent more than {MOST_BYTES >> 20} MiB for one answer.")
            if time.monotonic() > until:
                raise UpstreamFailed(f"it was still sending its answer after {within_s:g} s.")
    return httpx.Response(answer.status_code, headers=answer.headers, content=bytes(body), request=answer.request)
