"""What does our gateway cost, when the model costs nothing, against a bare FastAPI echo?

Ours is the whole way of a chat completion: middleware, validation, rate limit, routing by the
rollout, the serving log, the state that lets the answer be rated, metrics, over an engine that
answers at once. The rival parses the same JSON with FastAPI and echoes it in OpenAI's form. Both run
under uvicorn in a process of their own, the echo on the event loop that uvicorn picks (uvloop).
Goals: at least 0.5 of the echo's requests a second under 16 clients, and at most 2 ms more at the
median under one.
"""

import argparse
import statistics
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import uvicorn
from bench_serving import tokens_of
from inputs import accepted
from load import Load, press
from reporting import Goal, report, say, show
from servers import free_port, our_environment, running

from dpo_pipeline.core.answers import Answer, Ask
from dpo_pipeline.serving.engines.engine import Adapter, Engine
from dpo_pipeline.settings import load_settings
from dpo_pipeline.stores.ledger import Ledger

SIDES = {"gateway": "gateway", "bare FastAPI echo": "echo"}
BODY = {"model": "chat", "messages": [{"role": "user", "content": "Why is the sky blue?"}], "max_tokens": 16}


class InstantEngine(Engine):
    """Says what was asked; takes no time."""

    def __init__(self) -> None:
        self.models = {}

    @property
    def load(self) -> tuple[int, int]:
        return 0, 0

    def serve(self, adapters: Mapping[str, Adapter]) -> None:
        self.models = {name: adapter.sha for name, adapter in adapters.items()}

    async def answers(self, asks: Sequence[Ask]) -> list[Answer]:
        self.check_served(asks)
        return [Answer(ask.messages[-1][1], 8, 8, True, self.models[ask.model_id]) for ask in asks]

    async def stream(self, ask: Ask) -> AsyncIterator[str | Answer]:
        [answer] = await self.answers([ask])
        yield answer.text
        yield answer

    async def close(self) -> None:
        pass


def gateway() -> Any:
    from dpo_pipeline.serving import app

    settings = load_settings()
    with Ledger(settings.ledger_address) as ledger:
        accepted(ledger, "v1.0", "0" * 64, Path("none"))
        ledger.install_champion("v1.0", actor="benchmark")
    return app.create_app(settings, engine=InstantEngine())


def echo() -> Any:
    from fastapi import FastAPI

    app = FastAPI()

    @app.get("/readyz")
    def readyz() -> dict[str, str]:
        return {"status": "ready"}

    @app.post("/v1/chat/completions")
    async def chat(body: dict[str, Any]) -> dict[str, Any]:
        message = {"role": "assistant", "content": body["messages"][-1]["content"]}
        return {
            "id": "chatcmpl-0",
            "object": "chat.completion",
            "created": 0,
            "model": body["model"],
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 8, "completion_tokens": 8, "total_tokens": 16},
        }

    return app


def measure(side: str, directory: Path, requests: int) -> tuple[Load, Load]:
    """(one client, sixteen clients)."""
    port = free_port()
    command = [sys.executable, __file__, "--serve", SIDES[side], "--port", str(port)]
    with running(command, our_environment(directory, port), f"http://127.0.0.1:{port}", "/readyz") as url:
        path = url + "/v1/chat/completions"
        bodies = [{**BODY, "user": f"user {number % 50}"} for number in range(requests)]
        press(path, bodies[:200], 4, tokens_of)
        return press(path, bodies[: requests // 4], 1, tokens_of), press(path, bodies, 16, tokens_of)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", help="not used; every run has a directory of its own")
    parser.add_argument("--requests", type=int, default=3000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--serve", choices=("gateway", "echo"), help="be one of the servers")
    parser.add_argument("--port", type=int, default=0)
    args = parser.parse_args()
    if args.serve:
        app, loop = (gateway(), "asyncio") if args.serve == "gateway" else (echo(), "auto")  # as `dpo serve` does
        uvicorn.run(app, port=args.port, log_level="warning", loop=loop)
        return
    found: dict[str, list[tuple[Load, Load]]] = {side: [] for side in SIDES}
    for turn in range(args.rounds):
        for side in SIDES:
            with tempfile.TemporaryDirectory() as directory:
                found[side].append(measure(side, Path(directory), args.requests))
        say(f"round {turn + 1}: done")
    rows: list[dict[str, Any]] = [
        {
            "side": side,
            "requests a second, 16 clients": statistics.median(many.per_second for _, many in loads),
            "p99 ms, 16 clients": statistics.median(many.quantile_ms(0.99) for _, many in loads),
            "median ms, 1 client": statistics.median(one.median_ms for one, _ in loads),
            "failures": sum(one.failures + many.failures for one, many in loads),
        }
        for side, loads in found.items()
    ]
    show("A chat completion whose answer costs nothing", rows)
    share = [row["requests a second, 16 clients"] for row in rows]
    more = [row["median ms, 1 client"] for row in rows]
    goals = [
        Goal("share of the echo's requests a second,", share[0] / share[1], "at least", 0.5),
        Goal("more ms at the median,", more[0] - more[1], "at most", 2.0),
    ]
    report("gateway", goals, {"rows": rows})


if __name__ == "__main__":
    main()
