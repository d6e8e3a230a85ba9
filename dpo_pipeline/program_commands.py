"""`dpo up`, `serve`, `run`, `demo` and others: the programs of the loop, and people who use them."""

import logging
import math
import os
import signal
import sys
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Annotated

import typer

from dpo_pipeline import terminal, terminal_status
from dpo_pipeline.commands import command, data_folder
from dpo_pipeline.errors import ServiceError
from dpo_pipeline.settings import Settings, load_settings

STOPPED = (128 + signal.SIGINT, 128 + signal.SIGTERM)


@command("serve")
def serve() -> None:
    """Run only the server (API and feedback)."""
    import faulthandler

    import uvicorn

    from dpo_pipeline.loop.redactor import redactor
    from dpo_pipeline.program_logs import log_to_terminal
    from dpo_pipeline.serving.app import create_app
    from dpo_pipeline.serving.http_protocol import BACKLOG, BoundedHttp, allow_connections
    from dpo_pipeline.stores import folder_lock

    settings = data_folder()
    redactor(settings.collection)  # before anything starts, where its error is one line
    faulthandler.enable()  # should native code ever crash, the log says where
    log_to_terminal()
    logging.getLogger("httpx").setLevel(logging.WARNING)
    folder_lock.take_lock(
        settings.data_dir / folder_lock.SERVING, "server", "take two opposite votes on one comparison"
    )
    # Not uvloop, where another package brought it along: no gain (bench_gateway), and crashes (MagicStack/uvloop#706).
    ports = settings.ports
    allow_connections()
    uvicorn.run(
        create_app(settings),
        host=ports.host,
        port=ports.serving,
        loop="asyncio",
        http=BoundedHttp,
        backlog=BACKLOG,
        timeout_graceful_shutdown=math.ceil(settings.limits.deadline_s),
        proxy_headers=False,  # `serving.proxies` looks at them, and has to see whose connection it is
        log_level="warning",
    )


People = Annotated[bool, typer.Option(help="let simulated people use it too")]
Replicas = Annotated[int, typer.Option(min=1, help="servers, at this port and those after it; see DPO_DATABASE_URL")]


@command("up")
def up(people: People = False, replicas: Replicas = 1) -> None:
    """Start MLflow, Dagster and serving, and keep them running until Ctrl-C."""
    _up(load_settings(), people, replicas)


@command("up-scaled")
def up_scaled(people: People = False, replicas: Replicas = 2) -> None:
    """Like `up`, on a Postgres, an S3 (in memory) and a Ray head that are started too: the loop past one machine."""
    from dpo_pipeline.engines import engines

    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    with engines(load_settings()) as variables:
        os.environ.update(variables)
        _up(load_settings(), people, replicas)


def _up(settings: Settings, people: bool, replicas: int) -> None:
    from dpo_pipeline import programs

    programs.preflight(settings, replicas)
    code = programs.run_all(settings, people, partial(terminal_status.watch_programs, settings), replicas)
    if code and code not in STOPPED:
        terminal.print_log_tails(settings.logs_dir)
    raise typer.Exit(code)


@command("run")
def run(program: Annotated[str, typer.Argument(help="as it is called in the Procfile, such as serving")]) -> None:
    """Run one program of `dpo up` by itself, as containers do."""
    from dpo_pipeline import programs

    programs.become(load_settings(), program)


@command("daemon")
def daemon() -> None:
    """Run Dagster's daemon, as the only one on this data folder: two would launch everything twice."""
    from dpo_pipeline import programs

    programs.become_daemon(load_settings())


@command("people")
def people(pace: Annotated[float, typer.Option(help="actions per second, all people together")] = 2.0) -> None:
    """Let simulated people use a running system over HTTP, until Ctrl-C."""
    from dpo_pipeline.simulation.crowd import Crowd
    from dpo_pipeline.stores.bank import read_bank
    from dpo_pipeline.stores.key_ring import local_key

    settings = load_settings()
    crowd = Crowd([settings.serving_address], read_bank(settings.bank_dir), pace=pace, key=local_key(settings))
    crowd.start()
    try:
        crowd.wait()
    except KeyboardInterrupt:
        crowd.stop()
    met = terminal.counts(crowd.troubles) or "none"
    terminal.console.print(f"{crowd.votes:,} votes, {crowd.chats:,} chats, {crowd.ratings:,} ratings; errors: {met}")


@command("demo")
def demo(
    scaled: Annotated[bool, typer.Option(help="on the engines of `dpo up-scaled`, with two servers")] = False,
) -> None:
    """Run the loop once with simulated people, show what happened, and stop everything."""
    from dpo_pipeline.demo import run_demo
    from dpo_pipeline.engines import engines

    # A plain `kill` shall stop the programs too: it unwinds like Ctrl-C.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    started: AbstractContextManager[dict[str, str]] = engines(load_settings()) if scaled else nullcontext({})
    with started as variables:
        os.environ.update(variables)
        result = run_demo(terminal.console, replicas=2 if scaled else 1)
        terminal_status.print_demo(load_settings(), result)


@command("loadtest")
def loadtest(
    clients: Annotated[int, typer.Option(min=1, max=256, help="clients that ask at the same time")] = 8,
    seconds: Annotated[float, typer.Option(min=1, max=3600, help="for how long")] = 30,
    model: Annotated[str, typer.Option(help="`chat` follows the rollout; `v1.1` is explicit")] = "chat",
) -> None:
    """Load a running server with that many clients; prints a table and writes a page."""
    import asyncio

    from dpo_pipeline.reports.loadtest_page import loadtest_page
    from dpo_pipeline.simulation.loadtest import load
    from dpo_pipeline.stores.artifacts import write_text
    from dpo_pipeline.stores.bank import read_bank

    settings = data_folder()
    key = settings.keys.api.get_secret_value() if settings.keys.api else ""
    found = asyncio.run(load(settings.serving_address, read_bank(settings.bank_dir), clients, seconds, model, key))
    page = settings.reports_dir / "loadtest.html"
    write_text(page, loadtest_page(settings.serving_address, found.rows(), found.latencies_ms))
    terminal.print_rows("Load test", found.rows())
    terminal.console.print(f"The same with a plot: {page}")
    if not found.latencies_ms:
        met = terminal.counts(found.troubles)
        raise ServiceError(f"{settings.serving_address} gave no answer: {met}. Is `make up` running?")
