"""Clients that ask a server all at once and note how long each answer took."""

import asyncio
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import aiohttp


@dataclass(frozen=True)
class Load:
    """What one run with so many clients showed; latencies in milliseconds."""

    clients: int
    requests: int
    seconds: float
    latencies_ms: list[float]
    tokens: int
    failures: int

    @property
    def per_second(self) -> float:
        return self.requests / self.seconds

    def quantile_ms(self, share: float) -> float:
        ordered = sorted(self.latencies_ms)
        return ordered[min(int(share * len(ordered)), len(ordered) - 1)]

    @property
    def median_ms(self) -> float:
        return statistics.median(self.latencies_ms)


Read = Callable[[dict[str, Any]], int]
"""Tokens of an answer's body."""


def press(url: str, bodies: Sequence[dict[str, Any]], clients: int, read: Read) -> Load:
    """Send the bodies by so many clients, each of which waits for its answer before it sends the next."""
    return asyncio.run(_press(url, bodies, clients, read))


async def _press(url: str, bodies: Sequence[dict[str, Any]], clients: int, read: Read) -> Load:
    left = iter(bodies)
    latencies: list[float] = []
    tokens = failures = 0

    async def client(session: aiohttp.ClientSession) -> None:
        nonlocal tokens, failures
        for body in left:
            begin = time.perf_counter()
            async with session.post(url, json=body) as response:
                answer = await response.json()
            latencies.append(1000 * (time.perf_counter() - begin))
            if response.status >= 400:
                failures += 1
            else:
                tokens += read(answer)

    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=600)) as session:
        begin = time.perf_counter()
        await asyncio.gather(*(client(session) for _ in range(clients)))
        seconds = time.perf_counter() - begin
    return Load(clients, len(bodies), seconds, latencies, tokens, failures)
