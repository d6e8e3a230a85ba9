"""How much a running server can take: so many clients at once, for so long, on the bank's questions, over HTTP.

Everything it sends is marked `simulated`.
"""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import httpx

from dpo_pipeline.core.questions import Question
from dpo_pipeline.in_words import kind_of_fault


@dataclass
class LoadReport:
    """Latencies in ms of answered requests, in order of their end; `troubles` counts everything else by what it was."""

    clients: int
    seconds: float
    latencies_ms: list[float] = field(default_factory=list)
    tokens: int = 0
    troubles: Counter[str] = field(default_factory=Counter)
    versions: Counter[str] = field(default_factory=Counter)

    @property
    def per_second(self) -> float:
        return len(self.latencies_ms) / self.seconds if self.seconds else 0.0

    @property
    def error_rate(self) -> float | None:
        sent = len(self.latencies_ms) + self.troubles.total()
        return self.troubles.total() / sent if sent else None

    def quantile_ms(self, share: float) -> float | None:
        ordered = sorted(self.latencies_ms)
        return ordered[min(int(share * len(ordered)), len(ordered) - 1)] if ordered else None

    def rows(self) -> list[dict[str, object]]:
        found: list[tuple[str, object]] = [
            ("clients", self.clients),
            ("answers", len(self.latencies_ms)),
            ("answers a second", self.per_second),
            ("tokens a second", self.tokens / self.seconds if self.seconds else None),
            *((f"{name}, ms", self.quantile_ms(share)) for name, share in QUANTILES.items()),
            ("error rate", self.error_rate),
            *((f"answered by {name}", count) for name, count in sorted(self.versions.items())),
            *((f"trouble: {name}", count) for name, count in self.troubles.most_common()),
        ]
        return [{"measured": name, "value": value} for name, value in found]


QUANTILES = {"median": 0.5, "p95": 0.95, "p99": 0.99}


async def load(
    url: str, bank: Sequence[Question], clients: int, seconds: float, model: str = "chat", key: str = ""
) -> LoadReport:
    """Every client asks, waits for the whole answer, and asks again."""
    report = LoadReport(clients, 0.0)
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    begun = time.monotonic()
    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=90) as client, asyncio.TaskGroup() as group:
        for number in range(clients):
            group.create_task(_ask(client, bank, model, f"load {number}", begun + seconds, report))
    report.seconds = time.monotonic() - begun
    return report


async def _ask(
    client: httpx.AsyncClient, bank: Sequence[Question], model: str, name: str, until: float, report: LoadReport
) -> None:
    draw = random.Random(name)
    while time.monotonic() < until:
        question = draw.choice(bank).question
        body = {
            "model": model,
            "messages": [{"role": "user", "content": question}],
            "user": f"{name} {draw.randrange(1000)}",
            "source": "simulated",
        }
        begun = time.monotonic()
        try:
            answer = await client.post("/v1/chat/completions", json=body)
            answer.raise_for_status()
            told = answer.json()
            report.latencies_ms.append(1000 * (time.monotonic() - begun))
            report.tokens += told["usage"]["completion_tokens"]
            report.versions[told["model"]] += 1
        except httpx.HTTPStatusError as error:
            report.troubles[f"HTTP {error.response.status_code}"] += 1
            await asyncio.sleep(0.2)
        except httpx.HTTPError as error:
            report.troubles[kind_of_fault(error)] += 1
            await asyncio.sleep(0.2)
