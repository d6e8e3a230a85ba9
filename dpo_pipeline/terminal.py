"""What commands print: tables of values that others computed."""

import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from dpo_pipeline.errors import DatabaseUnavailable
from dpo_pipeline.in_words import cell, spoken
from dpo_pipeline.program_logs import tail
from dpo_pipeline.settings import Settings

if TYPE_CHECKING:
    from dpo_pipeline.core.forecast import Forecast
    from dpo_pipeline.loop.import_pairs import ImportReport

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def printable(text: str) -> str:
    """Without the characters that move a cursor or rename a window."""
    return _CONTROL.sub("\ufffd", text)


class PlainConsole(Console):
    """Names of files, versions and people, and what they wrote, are text: what is bold or dim is said beside them."""

    def __init__(self, **options: Any):
        super().__init__(highlight=False, markup=False, emoji=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(printable(text), **options)


console = PlainConsole()
STARTING_EVERY_S, RUNNING_EVERY_S = 1.0, 20.0


def counts(found: Mapping[str, int]) -> str:
    """ "read timeout (3), HTTP 503 (1)"; empty where nothing was counted."""
    return ", ".join(f"{spoken(name)} ({count:,})" for name, count in found.items())


def print_rows(title: str, rows: Sequence[Mapping[str, object]]) -> None:
    """Rows with the same keys."""
    table = Table(*rows[0], title=title, title_justify="left", box=None)
    for row in rows:
        table.add_row(*map(cell, row.values()))
    console.print(table)


def print_figures(title: str, figures: Mapping[str, object]) -> None:
    """One below the other, so that no name is cut off."""
    console.print(title)
    table = Table(box=None, show_header=False)
    for name, value in figures.items():
        table.add_row(spoken(name), cell(value))
    console.print(table)


def print_forecast(usage: str, found: "Forecast") -> None:
    """How a rollout is likely to go with this audience."""
    console.print(f"{usage}; assigned by {found.unit}, {found.shadow_share:.0%} of requests shadowed in staging")
    stages = Table("stage", "traffic", "ends after", "requests of the new version", box=None)
    for each in found.stages:
        ends = "not decided in time" if each.ends_after_h is None else f"{each.ends_after_h / 24:.1f} days"
        stages.add_row(each.stage, f"{each.traffic:.0%}", ends, f"{each.requests:,}")
    console.print(stages)
    votes = Table(
        "win rate", "votes needed", "days", box=None, title=f"A/B test ({found.reading})", title_justify="left"
    )
    for win_rate, needed in found.votes_needed.items():
        days = found.days_of_voting[win_rate]
        votes.add_row(
            win_rate, "more than 20,000" if needed is None else f"{needed:,}", "" if days is None else f"{days:.1f}"
        )
    console.print(votes)
    console.print(found.would_be_seen)
    for advice in found.advice:
        console.print(f"- {advice}")


def watch_programs(settings: Settings, stopping: threading.Event) -> None:
    """Addresses, and under them one line of how things are, kept up until the programs stop.

    Where there is no terminal, a line now and then instead.
    """
    print_addresses(settings)
    shown, shown_at = "", 0.0
    with Live(console=console, auto_refresh=False, transient=True) if console.is_terminal else nullcontext() as live:
        while not stopping.is_set():
            ready, line = system_status(settings)
            if live:
                live.update(Text(line, overflow="ellipsis", no_wrap=True), refresh=True)
            elif line != shown and (ready or time.monotonic() - shown_at > RUNNING_EVERY_S):
                console.print(line, soft_wrap=True)
                shown, shown_at = line, time.monotonic()
            stopping.wait(RUNNING_EVERY_S if ready else STARTING_EVERY_S)
    console.print("stopping …")


def system_status(settings: Settings) -> tuple[bool, str]:
    """(whether all programs answer and a version serves, what is going on in one sentence)."""
    # Every command imports this module, and the engine's process with it.
    from dpo_pipeline.answering import answering, client

    missing = [name for name, up in answering(settings).items() if not up]
    try:
        ready = client().get(f"{settings.serving_address}/readyz")
        sentence = _now_and_next(settings) if ready.is_success else str(ready.json()["error"]["message"])
    except (httpx.HTTPError, ValueError):
        return False, f"starting: {', '.join(missing or ['serving'])}"
    except DatabaseUnavailable:
        return False, "the database that servers share does not answer"
    return not missing and ready.is_success, "; ".join((*(f"{name} is starting" for name in missing), sentence))


def _now_and_next(settings: Settings) -> str:
    from dpo_pipeline.status import loop_status

    found = loop_status(settings)
    return f"{found['now']} {found['next']}"


def print_log_tails(logs_dir: Path) -> None:
    """What each program said last, after one of them was given up."""
    for path in sorted(logs_dir.glob("*.log")):
        if text := tail(path):
            console.print(f"--- {path}")
            console.print(text)


@contextmanager
def progress_bar(title: str) -> Iterator[Callable[[int, int, dict[str, float]], None]]:
    """A bar with steps and time left, as long as the block lasts; the value is called with (step, total, metrics)."""
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, TextColumn("{task.fields[metrics]}", markup=False), console=console) as bars:
        task = bars.add_task(title, total=None, metrics="")

        def report(step: int, total: int, metrics: dict[str, float]) -> None:
            text = ", ".join(f"{name} {value:.3g}" for name, value in metrics.items())
            bars.update(task, completed=step, total=total, metrics=text)

        yield report


def print_addresses(settings: Settings) -> None:
    registry = f"{settings.mlflow_address}/#/models/{settings.registered_model}"
    for name, where, what in (
        ("the loop", settings.serving_address, "start here: what is happening and what comes next; /docs is the API"),
        ("voting", f"{settings.serving_address}/compare", "the A/B test"),
        ("Dagster", settings.dagster_address, "assets, sensors, runs"),
        ("MLflow", registry, "runs and versions"),
        ("data", settings.data_dir, "DPO_DATA_DIR moves it; logs/ has what the programs print"),
    ):
        # No table: a narrow terminal would cut the addresses.
        console.print(Text.assemble(f"{name:<8} {where}  ", (what, "dim")), soft_wrap=True)


def print_imports(reports: "Mapping[str, ImportReport]") -> None:
    """What each file held, and why rows were refused; by the names of the files."""
    table = Table("file", "imported", "already there", "refused", "format", box=None)
    reasons = Table("refused because", "rows", "first rows", box=None)
    for name, report in reports.items():
        counts = (report.imported, report.already_there, report.refused.total())
        table.add_row(name, *map(str, counts), ", ".join(report.forms))
        for reason, count in report.refused.items():
            reasons.add_row(f"{name}: {reason}", str(count), ", ".join(map(str, report.examples[reason])))
    for shown in (table, reasons):
        if shown.row_count:
            console.print(shown)


def print_rollout(found: dict[str, Any]) -> None:
    """Where the version is that is being rolled out or was last, and why it is there."""
    rollout = found["rollout"]
    if rollout is None:
        console.print(f"No version is being rolled out; champion {found['champion'] or 'none yet'}.")
        return
    paused = ", paused" if rollout["paused"] else ""
    console.print(f"{rollout['version']} at {rollout['stage']}, {rollout['traffic']:.0%} of the traffic{paused}")
    for reason in rollout["reasons"]:
        console.print(f"- {rollout['decision']}: {reason}")


def print_status(settings: Settings, found: dict[str, Any]) -> None:
    from dpo_pipeline.core.validated_pair import SHORT_MEANINGS
    from dpo_pipeline.stores.curation import read_summary

    console.print(found["now"])
    console.print(f"Next: {found['next']}")
    preferences = found["preferences"]
    frequency = getattr(settings.cadence, preferences["phase"]).frequency
    added = ", with what feedback adds" if found["feedback"]["sources"] else ""
    console.print(
        Text.assemble(
            (f"{preferences['unused']:,}", "bold"),
            f" unused valid preferences{added}; {preferences['threshold']:,} start a training (phase "
            f"{preferences['phase']}, {frequency}). {preferences['recorded']:,} recorded, {preferences['valid']:,} "
            f"valid, {preferences['rejected']:,} rejected, {preferences['quarantined']:,} quarantined.",
        )
    )
    said = found["feedback"]
    if said["sources"]:
        taught = f"; the next version is trained by the objective {preferences['objective']}"
        questioned = f", {said['set_aside']} set aside after a rollback" if said["set_aside"] else ""
        console.print(f"feedback: {said['pairs']} pairs, {said['labelled']} labelled answers{questioned}{taught}")
    failed = read_summary(settings.curation_summary).failed
    if failed:
        title = "one pair may fail several"
        table = Table("rejected for", "pairs", "criterion", box=None, title=title, title_justify="left")
        for name, count in sorted(failed.items(), key=lambda item: -item[1]):
            table.add_row(SHORT_MEANINGS.get(name, spoken(name)), f"{count:,}", name)
        console.print(table)
    versions = Table("version", "attempt", "status", "parent", "pairs", "win rate", "adapter", "MLflow", box=None)
    for version in found["versions"]:
        rate = "" if version["win_rate"] is None else f"{version['win_rate']:.1%}"
        sha = (version["adapter_sha"] or "")[:12]
        name, status = version["name"], spoken(version["status"])
        row = (name, version["attempt"], status, version["parent"] or "", version["pairs"] or "")
        versions.add_row(*map(str, (*row, rate, sha, version["mlflow_version"] or "")))
    console.print(versions)
    console.print(f"champion {found['champion'] or 'none yet'}, challenger {found['challenger'] or 'none'}")
    if rollout := found["rollout"]:
        console.print(
            f"rollout of {rollout['version']}: {rollout['stage']}, {rollout['traffic']:.0%} of the traffic; "
            f"{rollout['decision']}: {'; '.join(rollout['reasons'])}"
        )


def print_demo(settings: Settings, result: Any) -> None:
    version = result.version
    console.print()
    from dpo_pipeline.status import loop_status

    print_status(settings, loop_status(settings))
    table = Table("stage", "decision", "because", box=None, title=f"Rollout of {version.name}", title_justify="left")
    for decision in result.decisions:
        if decision.decision != "hold":
            table.add_row(decision.stage, decision.decision, "\n".join(decision.reasons))
    console.print(table)
    evaluation = version.evaluation or {}
    kept_by = "make up-scaled" if settings.database_url else "make up"
    facts = Table(box=None, show_header=False, title=f"Where to look ({kept_by})", title_justify="left")
    facts.add_row(
        "dataset", f"{version.pairs} pairs, {settings.artifacts_dir / 'datasets' / version.dataset_hash[:16]}"
    )
    facts.add_row("adapter", f"{settings.checkpoints_dir / 'dpo'}")
    facts.add_row(
        "length", f"{evaluation.get('words', 0):.1f} words, {version.parent} {evaluation.get('parent_words', 0):.1f}"
    )
    facts.add_row("votes", str(settings.prefs_log))
    facts.add_row("Dagster", settings.dagster_address)
    facts.add_row("MLflow", f"{settings.mlflow_address}/#/models/{settings.registered_model}")
    facts.add_row("serving", f"{settings.serving_address}")
    console.print(facts)
    outcome = "serves all of the traffic" if version.status == "champion" else f"is {spoken(version.status)}"
    took = f" after {result.votes} votes and {result.seconds / 60:.1f} minutes."
    console.print(Text.assemble("\n", (f"{version.name} {outcome}", "bold"), took))
