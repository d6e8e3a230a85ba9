"""The server that one would write for votes: FastAPI, a lock, one line and one fsync each. `bench_voters`' rival."""

import os
import sys
import threading
from pathlib import Path

import msgspec
import uvicorn
from fastapi import FastAPI, Request
from starlette.concurrency import run_in_threadpool


def create(path: Path) -> FastAPI:
    app, lock = FastAPI(), threading.Lock()
    log = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def keep(line: bytes) -> None:
        with lock:
            os.write(log, line + b"\n")
            os.fsync(log)

    @app.post("/v1/comparisons/{comparison_id}/vote", status_code=201)
    async def vote(comparison_id: str, request: Request) -> dict[str, str]:
        body = msgspec.json.decode(await request.body())
        await run_in_threadpool(keep, msgspec.json.encode({"id": comparison_id, "vote": body["vote"]}))
        return {"event_id": comparison_id}

    @app.get("/healthz")
    def healthz() -> dict[str, str]:
        return {"status": "ok"}

    return app


if __name__ == "__main__":
    uvicorn.run(create(Path(sys.argv[1])), host="127.0.0.1", port=int(sys.argv[2]), log_level="warning")
